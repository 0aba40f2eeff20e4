"""What models take on emulated microcontrollers: a file for each command."""
