"""Build and fill task tables from a store: link, scores, select, replay and follow_up."""
