"""JavaScript and CSS of the notebook's views."""
