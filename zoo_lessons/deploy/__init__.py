"""Deployment: quantize, export, fuse, serve, and run one model on several devices."""
