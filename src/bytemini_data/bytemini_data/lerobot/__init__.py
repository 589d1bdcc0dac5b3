"""LeRobotDataset v3.0 with pyarrow and PyAV alone: a writer that survives kills, and a fast reader without torch.

One parquet file and one mp4 per camera and episode. The format is lerobot's (huggingface/lerobot,
`src/lerobot/datasets`), read by its loader as it is; nothing of lerobot is needed here.
"""

from bytemini_data.lerobot.reader import Dataset
from bytemini_data.lerobot.schema import DatasetError, Feature, Schema
from bytemini_data.lerobot.writer import DatasetWriter, EpisodeWriter, StagedEpisode

__all__ = ["Dataset", "DatasetError", "DatasetWriter", "EpisodeWriter", "Feature", "Schema", "StagedEpisode"]
