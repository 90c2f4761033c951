"""What performs a Plan: the clone, the handshake, the steps inside the child."""
