"""Commands beside Kedro's own: what they do with an environment of the project."""
