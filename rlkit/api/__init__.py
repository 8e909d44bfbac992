"""The functions behind `import rlkit` and the command line."""
