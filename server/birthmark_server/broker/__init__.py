"""The MQTT broker as the server sees it: who may touch which topic, who is connected, and how messages come and go."""
