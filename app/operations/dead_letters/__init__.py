"""Looking at dead letters, and sending them again once what refused them is mended."""
