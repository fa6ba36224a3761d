"""The factory: from a work order to devices that are flashed, born, tested, labelled and recorded."""
