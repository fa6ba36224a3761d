"""Linux devices, by their disk: an image written, read back and compared; then what the device says on its console.

blockmap  which blocks of an image count, with their hashes       guard  may this disk be written at all?
gpt       where a partition is                                    flash  the way from image to a verified disk
provision the device's own record, on its data partition          console, target  the device, once it runs
"""
