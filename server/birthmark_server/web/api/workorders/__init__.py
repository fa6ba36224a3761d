"""Work orders and stations: what operators do, and what stations ask."""
