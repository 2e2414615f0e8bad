"""What the pages show, gathered with few queries; the admin classes and templates present it."""
