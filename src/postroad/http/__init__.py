"""What a program outside may ask of a running relay: today the control socket, data_dir/control.sock.

control_wire.py says what goes over it, control_server.py answers, control_client.py asks.
"""
