"""Runs `python -m cellclass_tf.cli`, which is the same as `cellclass`."""

from cellclass_tf.cli.main import main

if __name__ == "__main__":
    main()
