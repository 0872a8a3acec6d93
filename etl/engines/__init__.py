"""Who runs read tasks and writers."""
