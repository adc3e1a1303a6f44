"""What peerbook is measured against: other servers that pass messages between WebSockets."""
