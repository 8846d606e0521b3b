"""The token-design atlas: designs brought into plain data, and what a machine measures of them."""
