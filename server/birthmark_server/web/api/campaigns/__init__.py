"""Campaigns at the desk: what operators send (bodies), what they get (views), who does it, and the routes."""
