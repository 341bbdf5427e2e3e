"""Units on an engine: Beam, processes, what a job's stages share, forecasts."""
