"""From a store back to tables: link, scores, select, replay and follow_up."""
