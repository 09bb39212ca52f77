"""Text generators: an offline stand-in, recorded replies, or any OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 300  # seconds to wait for a reply


class Generator(Protocol):
    """The interface that the pipeline calls a model through, in several threads at once."""

    def generate(self, prompt: str, model: str) -> str:
        """Return a model's reply to a prompt."""
        ...


class GenerationError(Exception):
    """The endpoint did not return a reply."""


class OfflineStandIn:
    """Replaces a model: builds a short text from the words of the prompt, always the same for a prompt and a model.

    The text contains everything that the parsers of this pipeline search for.
    """

    def generate(self, prompt: str, model: str) -> str:
        """Return the stand-in's text."""
        digest = _digest(prompt, model)
        words = re.findall(r"[^\W\d_]{5,}", prompt) or ["nothing"]
        sentences = [
            " ".join(words[(digest[start] * 7 + step * (1 + digest[start + 1])) % len(words)] for step in range(9))
            for start in range(0, 12, 2)
        ]
        text = ". ".join(sentence.capitalize() for sentence in sentences) + "."
        score = digest[0] % 10
        return (
            f"(Offline stand-in for {model}: no model was called.)\n\n"
            f"<essay-idea>{sentences[0].capitalize()}.</essay-idea>\n\n"
            f"<essay>\n{text}\n</essay>\n\n"
            f"Total Score: {score}/10\n\nSCORE: {score}\n"
        )


class RecordedReplies:
    """Replays model replies from the `.txt` files of a directory. A prompt always gets the same reply."""

    def __init__(self, directory: Path) -> None:
        self.replies = [path.read_bytes().decode() for path in sorted(directory.glob("*.txt"))]
        if not self.replies:
            raise FileNotFoundError(f"{directory}: no .txt files; expected recorded replies")

    def generate(self, prompt: str, model: str) -> str:
        """Return the reply for this prompt and model."""
        return self.replies[int.from_bytes(_digest(prompt, model)[:8], "big") % len(self.replies)]


class OpenAICompatible:
    """Calls an endpoint that implements OpenAI's `/chat/completions`.

    Each call has a connection of its own, so any number of threads can call it at once.

    Args:
        url: the base URL, such as `https://openrouter.ai/api/v1` or `http://localhost:11434/v1`.
        key: the API key, if the endpoint needs one.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def generate(self, prompt: str, model: str) -> str:
        """Return the model's reply.

        Raises:
            GenerationError: the endpoint did not answer, reported an error, or sent no text.
        """
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode()
        try:
            request = urllib.request.Request(self.url, body, self._headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                reply = json.load(response)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            raise GenerationError(f"{self.url} answered {error.code} for {model}: {error.read(500)!r}") from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise GenerationError(f"{self.url} gave no reply for {model}: {error!r}") from error
        if not isinstance(reply, str):
            raise GenerationError(f"{self.url} gave no text for {model}: {reply!r}")
        return reply


def from_environment() -> Generator:
    """Return a generator for the endpoint in ESSAYS_BASE_URL (with ESSAYS_API_KEY); default: the offline stand-in."""
    url = os.environ.get("ESSAYS_BASE_URL")
    return OpenAICompatible(url, os.environ.get("ESSAYS_API_KEY")) if url else OfflineStandIn()


def _digest(prompt: str, model: str) -> bytes:
    return hashlib.sha256(f"{model}\n{prompt}".encode()).digest()
