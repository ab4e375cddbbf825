"""The dispatcher: validates, authorizes and routes requests, rescues what dies, keeps streams in order."""
