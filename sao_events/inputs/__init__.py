"""What others send: each module knows one kind of sender and turns its message into events, purely, or says why not."""
