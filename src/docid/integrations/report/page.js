"use strict";
(() => {
  // --- the documents ---------------------------------------------------------------------------------------------

  const data = JSON.parse(document.getElementById("data").textContent);
  const PARTS = ["raw", "parsed", "prompt"];
  const MANY = 200; // children to draw at once
  const IN_VIEW = 3000; // most documents to show unfolded
  const UNFOLDED = 300; // most search results to unfold
  const stages = new Map(data.stages.map((stage) => [stage.name, stage]));
  const byKey = new Map(); // stage/id -> node

  class Node {
    constructor(stage, row) {
      this.stage = stage;
      this.row = row;
      this.key = `${stage.name}/${row.id}`;
      this.children = [];
      this.parent = null;
      this.flags = [];
      this.isOpen = false;
      this.limit = MANY;
      this.item = null;
    }

    get words() {
      // Built at the first search: most visitors do not search.
      const { task = "", run = "", metadata = null } = this.row;
      this.found ??= `${this.key}\n${task}\n${run}\n${metadata ? JSON.stringify(metadata) : ""}`.toLowerCase();
      return this.found;
    }
  }

  for (const stage of data.stages) {
    for (const row of stage.documents) {
      const node = new Node(stage, row);
      byKey.set(node.key, node);
    }
  }

  const documents = byKey.size; // counted here: the loop below adds nodes for absent parents
  const roots = [];
  for (const node of [...byKey.values()]) {
    const { stage, row } = node;
    const above = stage.parent && stages.get(stage.parent);
    if (!above || row.parent === undefined) {
      roots.push(node);
      continue;
    }
    const key = `${above.name}/${row.parent}`;
    let parent = byKey.get(key);
    if (!parent) {
      parent = new Node(above, { id: row.parent, absent: true, sizes: [] });
      byKey.set(key, parent);
      roots.push(parent);
    }
    parent.children.push(node);
    node.parent = parent;
  }

  const inputOf = new Map(); // stage/id -> the nodes that have it as an input
  for (const node of byKey.values()) {
    for (const name of node.row.inputs ?? []) inputOf.set(name, [...(inputOf.get(name) ?? []), node]);
  }

  for (const [key, level, message] of data.findings) byKey.get(key)?.flags.push({ level, message });

  // --- helpers ---------------------------------------------------------------------------------------------------

  // Escape characters that reorder text, so that names read as they are stored.
  const STEERING = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]/g;
  const MARKS = /[\u061c\u200e\u200f\t\n\r]/g;
  const escaped = (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const forText = (text) => text.replace(STEERING, escaped);
  const forName = (text) => forText(String(text)).replace(MARKS, escaped);
  const count = (number) => number.toLocaleString("en-US");
  const countOf = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

  // Content is inserted as text, never as markup.
  const make = (tag, attributes = {}, ...content) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...content);
    return element;
  };
  const named = (tag, text, attributes = {}) => make(tag, attributes, make("bdi", {}, forName(text)));

  // --- the tree --------------------------------------------------------------------------------------------------

  const tree = document.getElementById("tree");
  const status = document.getElementById("status");
  const search = document.getElementById("search");
  const detail = document.getElementById("detail");
  let matches = null; // node -> true for a search result, false for its ancestors; null without a search
  let selected = null;
  let active = null; // the item with the keyboard focus

  // A search result is shown with its ancestors and all its descendants.
  const isFound = (node) => node !== null && (matches.get(node) === true || isFound(node.parent));
  const childrenOf = (node) =>
    matches && !isFound(node) ? node.children.filter((child) => matches.has(child)) : node.children;
  const rootsShown = () => (matches ? roots.filter((root) => matches.has(root)) : roots);

  const draw = (node, level, position, of) => {
    const children = childrenOf(node);
    const line = make("div", { class: "node" });
    line.append(make("span", { class: "fold", "aria-hidden": "true" }, children.length ? (node.isOpen ? "▾" : "▸") : ""));
    if (node.flags.length) line.append(make("span", { class: `flag ${worst(node)}`, title: forName(node.flags[0].message) }, "!"));
    line.append(named("span", node.key, { class: "name" }));
    if (absence(node)) line.append(make("span", { class: "flag warning" }, `(${absence(node)})`));
    if (node.row.task !== undefined) line.append(named("span", node.row.task, { class: "task", title: forName(node.row.task) }));
    if (children.length) line.append(make("span", { class: "count" }, count(children.length)));
    const item = make("li", {
      role: "treeitem", tabindex: "-1", "aria-level": level, "aria-posinset": position, "aria-setsize": of,
      "aria-selected": String(node === selected), "aria-label": label(node, children),
    }, line);
    if (children.length) {
      item.setAttribute("aria-expanded", String(node.isOpen));
      if (node.isOpen) item.append(group(node, children, level + 1));
    }
    item.node = node;
    node.item = item;
    return item;
  };

  const absence = ({ row }) => {
    if (row.broken) return "unreadable";
    return row.absent ? (data.isCut ? "not on this page" : "not in the store") : "";
  };

  const label = (node, children) => {
    const parts = [forName(node.key)];
    if (node.row.task !== undefined) parts.push(forName(node.row.task));
    if (absence(node)) parts.push(absence(node));
    if (children.length) parts.push(countOf(children.length, "child", "children"));
    if (node.flags.length) parts.push(countOf(node.flags.length, "finding"));
    return parts.join(", ");
  };

  const worst = (node) => (node.flags.some((flag) => flag.level === "error") ? "error" : "warning");

  const group = (node, children, level) => {
    const list = make("ul", { role: "group" });
    fill(list, children, level, node);
    return list;
  };

  const fill = (list, nodes, level, owner) => {
    const shown = Math.min(nodes.length, owner.limit);
    list.replaceChildren(...nodes.slice(0, shown).map((node, at) => draw(node, level, at + 1, nodes.length)));
    if (shown < nodes.length) {
      const more = make("button", { type: "button", class: "more" }, `Show ${count(Math.min(MANY, nodes.length - shown))} more`);
      more.addEventListener("click", () => {
        owner.limit += MANY;
        fill(list, nodes, level, owner);
        const next = list.children[shown];
        if (next?.node) focus(next);
      });
      const item = make("li", { role: "none" }, more);
      list.append(item);
    }
  };

  const top = { limit: MANY };
  const drawAll = () => {
    const hadFocus = tree.contains(document.activeElement);
    fill(tree, rootsShown(), 1, top);
    active = null;
    const first = selected?.item?.isConnected ? selected.item : tree.querySelector('[role="treeitem"]');
    if (first) activate(first);
    if (first && hadFocus) focus(first);
  };

  const redraw = (node) => {
    const old = node.item;
    if (!old?.isConnected) return;
    const [level, position, of] = ["aria-level", "aria-posinset", "aria-setsize"].map((key) => old.getAttribute(key));
    const hadFocus = old.contains(document.activeElement);
    const item = draw(node, Number(level), position, of);
    old.replaceWith(item);
    if (hadFocus) focus(item);
    else if (active && !active.isConnected) activate(item);
  };

  const setOpen = (node, isOpen) => {
    if (node.isOpen === isOpen || !childrenOf(node).length) return;
    node.isOpen = isOpen;
    redraw(node);
  };

  // The Tab key reaches one item of the tree; the arrow keys move from there.
  const activate = (item) => {
    active?.setAttribute("tabindex", "-1");
    active = item;
    item.setAttribute("tabindex", "0");
  };
  const focus = (item) => {
    activate(item);
    item.focus();
    item.firstElementChild.scrollIntoView({ block: "nearest" });
  };

  const items = () => [...tree.querySelectorAll('[role="treeitem"]')];
  const stops = () => [...tree.querySelectorAll('[role="treeitem"], button.more')];

  const keys = {
    ArrowDown: (item) => stops()[stops().indexOf(item) + 1],
    ArrowUp: (item) => stops()[stops().indexOf(item) - 1],
    Home: () => stops()[0],
    End: () => stops().at(-1),
    ArrowRight: (item) => {
      if (item.getAttribute("aria-expanded") === "false") setOpen(item.node, true);
      else return item.querySelector('[role="treeitem"]');
    },
    ArrowLeft: (item) => {
      if (item.getAttribute("aria-expanded") === "true") setOpen(item.node, false);
      else return item.parentElement.closest('[role="treeitem"]');
    },
    Enter: (item) => select(item.node),
    " ": (item) => select(item.node),
  };

  tree.addEventListener("keydown", (event) => {
    const isButton = event.target.tagName === "BUTTON";
    const stop = isButton ? event.target : event.target.closest('[role="treeitem"]');
    const act = keys[event.key];
    const isForItems = ["Enter", " ", "ArrowLeft", "ArrowRight"].includes(event.key);
    if (!stop || !act || (isButton && isForItems) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = act(stop);
    if (next?.node) focus(next);
    else next?.focus();
  });

  tree.addEventListener("click", (event) => {
    const item = event.target.closest('[role="treeitem"]');
    if (!item || event.target.closest("button")) return;
    focus(item);
    if (event.target.closest(".fold")) setOpen(item.node, !item.node.isOpen);
    else select(item.node);
  });

  document.getElementById("fold").addEventListener("click", () => {
    for (const node of byKey.values()) {
      node.isOpen = false;
      node.limit = MANY;
    }
    top.limit = MANY;
    drawAll();
    status.textContent = "All folded.";
  });

  document.getElementById("unfold").addEventListener("click", () => {
    // Unfold one level, unless it would show more documents than anyone can read.
    const folded = items().filter((item) => item.getAttribute("aria-expanded") === "false");
    const more = folded.reduce((sum, item) => sum + Math.min(MANY, childrenOf(item.node).length), 0);
    if (items().length + more > IN_VIEW) {
      status.textContent =
        `Unfolding would show ${count(more)} more documents, too many to read. Search, or unfold some of them.`;
      return;
    }
    for (const item of folded) item.node.isOpen = true;
    drawAll();
    status.textContent = `${countOf(items().length, "document")} in view.`;
  });

  // --- searching -------------------------------------------------------------------------------------------------

  const find = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const node of byKey.values()) node.isOpen = false;
    top.limit = MANY;
    if (!words.length) {
      matches = null;
      if (selected) reveal(selected);
      drawAll();
      status.textContent = summary();
      return;
    }
    matches = new Map();
    let found = 0;
    for (const node of byKey.values()) {
      if (!words.every((word) => node.words.includes(word))) continue;
      found += node.row.absent ? 0 : 1;
      matches.set(node, true);
      for (let above = node.parent; above; above = above.parent) {
        if (!matches.has(above)) matches.set(above, false);
        if (found <= UNFOLDED) above.isOpen = true;
      }
    }
    drawAll();
    status.textContent = `${count(found)} of ${countOf(documents, "document")} found.`;
  };

  const summary = () => `${countOf(documents, "document")}, ${count(roots.length)} at the top.`;

  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, 120);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") search.value = "";
    else if (event.key !== "Enter") return;
    clearTimeout(timer);
    find();
  });

  // --- one document ----------------------------------------------------------------------------------------------

  const reveal = (node) => {
    for (let below = node, above = node.parent; above; below = above, above = above.parent) {
      above.isOpen = true;
      above.limit = Math.max(above.limit, childrenOf(above).indexOf(below) + 1);
    }
    let root = node;
    while (root.parent) root = root.parent;
    top.limit = Math.max(top.limit, rootsShown().indexOf(root) + 1);
  };

  const select = (node) => {
    const before = selected;
    selected = node;
    before?.item?.setAttribute("aria-selected", "false");
    node.item?.setAttribute("aria-selected", "true");
    show(node);
    history.replaceState(null, "", `#${node.key}`);
    status.textContent = `${node.key} is shown.`;
    // In the narrow layout the document is below the tree, out of sight.
    if (matchMedia("(max-width: 900px)").matches) detail.scrollIntoView({ block: "nearest" });
  };

  const linkTo = (node) => named("a", node.key, { href: `#${node.key}` });

  const fileOf = (node, name, text) => {
    const { stage, row } = node;
    if (!stage.link) return make("span", {}, text);
    return make("a", { href: `${stage.link}${row.id}/${name}` }, text);
  };

  const recordOf = (node) => {
    const { stage, row } = node;
    const files = {};
    PARTS.forEach((part, at) => {
      if (row.sizes[at] == null) return;
      files[data.parts[at]] = row.sha256 ? { bytes: row.sizes[at], sha256: row.sha256[at] } : { bytes: row.sizes[at] };
    });
    // A legacy record is shown with its own keys only.
    if (row.legacy) return { task_id: row.task, parent_doc_id: row.parent, run_id: row.run, ...row.metadata };
    return {
      stage: stage.name, doc_id: row.id, task_id: row.task ?? null, parent_doc_id: row.parent ?? null,
      ...(row.inputs && { inputs: row.inputs }),
      run_id: row.run ?? null, created_at: row.created ?? null, files, ...row.metadata,
    };
  };

  const textOf = (node, part, at) => {
    const text = node.row.texts?.[part];
    const size = `${part} (${count(node.row.sizes[at])} bytes)`;
    if (text === undefined) {
      return make("p", { class: "left-out" }, fileOf(node, data.parts[at], size), " is not on this page.");
    }
    const isOpen = part !== "prompt";
    return make("details", isOpen ? { open: "", class: "text" } : { class: "text" },
      make("summary", {}, size), make("pre", { dir: "auto", tabindex: "0" }, forText(text)));
  };

  const show = (node) => {
    const { row, stage } = node;
    const lines = make("dl");
    const add = (term, ...content) => lines.append(make("dt", {}, term), make("dd", {}, ...content));
    if (row.task !== undefined) add("task", named("span", row.task));
    if (node.parent) add("parent", linkTo(node.parent));
    else if (row.parent !== undefined) add("parent", named("span", row.parent));
    for (const name of row.inputs ?? []) add("input", byKey.has(name) ? linkTo(byKey.get(name)) : named("span", name));
    for (const user of inputOf.get(node.key) ?? []) add("input of", linkTo(user));
    if (node.children.length) add("children", count(node.children.length));
    add("location", named("span", `${stage.before}${row.id}${stage.after}`));
    for (const flag of node.flags) add(flag.level, named("strong", flag.message, { class: `message ${flag.level}` }));
    const content = [named("h3", node.key, { tabindex: "-1" }), lines];
    if (absence(node)) {
      content.push(make("p", {}, `It is ${absence(node)}.`));
    } else {
      PARTS.forEach((part, at) => {
        if (row.sizes[at] != null) content.push(textOf(node, part, at));
      });
      const record = row.cut
        ? make("p", { class: "left-out" }, fileOf(node, "metadata.json", "The record"), " is not on this page.")
        : make("details", { open: "", class: "record" }, make("summary", {}, row.legacy ? "record (legacy)" : "record"),
          make("pre", { tabindex: "0" }, forText(JSON.stringify(recordOf(node), null, 2))));
      content.push(record);
    }
    detail.replaceChildren(...content);
    detail.scrollTop = 0;
  };

  const follow = (name) => {
    const node = byKey.get(name);
    if (!node) {
      if (name.includes("/")) status.textContent = `${forName(name)} is not on this page.`;
      return;
    }
    if (matches && !matches.has(node) && !isFound(node)) {
      search.value = "";
      matches = null;
    }
    reveal(node);
    drawAll();
    select(node);
    focus(node.item);
  };
  const nameIn = (hash) => {
    try {
      return decodeURIComponent(hash.slice(1));
    } catch {
      return ""; // not a document
    }
  };
  addEventListener("hashchange", () => follow(nameIn(location.hash)));
  // A link to the current document causes no hashchange, so follow it here.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link || !byKey.has(nameIn(link.hash))) return;
    event.preventDefault();
    follow(nameIn(link.hash));
  });

  // --- start -----------------------------------------------------------------------------------------------------

  document.getElementById("lineage").hidden = false;
  drawAll();
  status.textContent = summary();
  follow(nameIn(location.hash));
  performance.mark("docid-ready");
})();
