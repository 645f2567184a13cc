"""The codecs that are accepted, by the names of libav's decoders, separated by commas.

libav has hundreds of decoders. Most of them read formats that only old games or rare devices wrote. Such
decoders get little care, so they are where a hostile file would find a fault.
"""

__all__ = ["DECODERS", "is_accepted"]

#: Pictures of a clip: delivery, cameras and editors, lossless archives, and old files in AVI, MOV and FLV.
_VIDEO = (
    "h264,hevc,libdav1d,av1,vp9,vp8,mpeg4,mpeg2video,mpeg1video,theora,gif,"
    "mjpeg,dvvideo,prores,dnxhd,cfhd,jpeg2000,png,qtrle,rawvideo,v210,"
    "ffv1,ffvhuff,huffyuv,utvideo,"
    "h263,flv,vp6,vp6a,vp6f,msmpeg4,msmpeg4v2,wmv1,wmv2,wmv3,vc1,svq1,svq3,cinepak"
)
#: Sound is copied, not decoded. But libav decodes the first packets of a stream whose header says too little.
_AUDIO = (
    "aac,aac_latm,mp1float,mp2float,mp3float,ac3,eac3,dca,truehd,opus,vorbis,flac,alac,speex,amrnb,amrwb,"
    "wmav1,wmav2,adpcm_ima_wav,adpcm_ms,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,"
    "pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_bluray,pcm_dvd"
)
_IMAGES = "png,mjpeg,webp,bmp,gif"

#: All decoders that libav may open, for its option `codec_whitelist`.
DECODERS = f"{_VIDEO},{_AUDIO},{_IMAGES}"


def is_accepted(decoder: str | None) -> bool:
    """Return whether a clip may have pictures that need this decoder. None stands for an unknown one."""
    return decoder in _VIDEO.split(",")
