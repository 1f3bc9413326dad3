"""What a workshop needs besides the course: bundles for two roles, slides, and a USB stick."""
