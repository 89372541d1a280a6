"""One data model of what a run found; its JSON, Markdown and HTML forms; and the regression gate."""
