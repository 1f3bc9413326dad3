"""The course where people really open it: Colab, Binder, and computers that are set up oddly."""
