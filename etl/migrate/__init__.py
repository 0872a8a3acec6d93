"""The command that loads: settings to exit code, the checks before a run, `--plan`, and the demo."""
