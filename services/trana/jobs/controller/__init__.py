"""The loop that makes what is stored come true: observe, decide, save, act. It never meets the API but in the store."""
