"""peerbook: a WebRTC signaling server with a private address book per user."""

__version__ = "0.1.0"
