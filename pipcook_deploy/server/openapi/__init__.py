"""The OpenAPI document: made from the routing table and what stands beside its rows."""
