"""The command line: each verb calls one function of `commands`."""
