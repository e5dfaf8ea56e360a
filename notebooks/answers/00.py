# %% name="00-cut"
placement = {"fc2": devices[1], "*": devices[0]}  # 64 × 50 numbers of 4 bytes, and their gradients: 25,600 bytes
