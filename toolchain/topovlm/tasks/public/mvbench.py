"""Where MVBench's clips lie, part by part, in its two revisions on the hub."""

from __future__ import annotations

from topovlm.tasks.public.record import Uncut, Videos

# Folder of clips, in the hub's revision `video` -> the parts of the benchmark that are about them.
_FOLDERS = {
    "star/Charades_segment": "object_interaction action_sequence action_prediction",
    "sta/sta_video_segment": "action_localization",
    "clevrer/video_validation": "moving_count moving_direction moving_attribute counterfactual_inference "
    "object_existence",
    "nturgbd_convert": "fine_grained_pose",
    "perception/videos": "character_order object_shuffle state_change action_count",
    "vlnqa": "egocentric_navigation",
    "tvqa/video_fps3_hq_segment": "episodic_reasoning",
    "Moments_in_Time_Raw/videos": "fine_grained_action",
    "scene_qa/video": "scene_transition",
    "ssv2_video_mp4": "action_antonym",
    "FunQA_test/test": "unexpected_action",
}
_BY_PART = tuple((part, folder) for folder, parts in _FOLDERS.items() for part in parts.split())
# Folders that are other ones in revision `main` (the authors' `mvbench.ipynb`).
_UNCUT = (
    Uncut("star/Charades_segment", "star/Charades_v1_480", bounded=True),
    Uncut("sta/sta_video_segment", "sta/sta_video", bounded=True),
    Uncut("tvqa/video_fps3_hq_segment", "tvqa/frames_fps3_hq", bounded=True, rate=3),
    Uncut("nturgbd_convert", "nturgbd"),
    Uncut("ssv2_video_mp4", "ssv2_video"),
)

PARTS = tuple(part for part, _ in _BY_PART)
VIDEOS = Videos(
    "video",
    ("data0613", "video/data0613"),
    suffixes=("",),
    by_config=_BY_PART,
    uncut=_UNCUT,
    uncut_revision="main",
)
