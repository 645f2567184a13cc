"""The codecs that are accepted, by the names of libav's decoders, separated by commas.

libav has hundreds of decoders. Most of them read formats that only old games or rare devices wrote. Such
decoders get little care, so they are where a hostile file would find a fault.
"""

from typing import Literal

__all__ = ["DECODERS", "is_accepted"]

#: Pictures of a clip: delivery, cameras and editors, lossless archives, and old files in AVI, MOV and FLV.
_VIDEO = (
    "h264,hevc,libdav1d,av1,vp9,vp8,mpeg4,mpeg2video,mpeg1video,theora,gif,apng,"
    "mjpeg,dvvideo,prores,dnxhd,cfhd,jpeg2000,png,qtrle,rawvideo,v210,"
    "ffv1,ffvhuff,huffyuv,utvideo,"
    "h263,flv,vp6,vp6a,vp6f,msmpeg4,msmpeg4v2,wmv1,wmv2,wmv3,vc1,svq1,svq3,cinepak"
)
#: Sound of cameras, telephones, recorders, broadcasts, discs and old files.
_AUDIO = (
    "aac,aac_latm,mp1,mp1float,mp2,mp2float,mp3,mp3float,ac3,eac3,dca,truehd,mlp,opus,vorbis,flac,alac,tta,wavpack,speex,"
    "amrnb,amrwb,gsm,gsm_ms,nellymoser,qdm2,mace3,mace6,wmav1,wmav2,wmapro,wmavoice,wmalossless,"
    "adpcm_ima_wav,adpcm_ima_qt,adpcm_ms,adpcm_swf,adpcm_yamaha,g722,g726,dvaudio,s302m,pcm_bluray,pcm_dvd,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_u16le,pcm_u16be,pcm_u24le,pcm_u24be,pcm_u32le,pcm_u32be,"
    "pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_s64le,pcm_s64be,"
    "pcm_s8_planar,pcm_s16le_planar,pcm_s16be_planar,pcm_s24le_planar,pcm_s32le_planar,"
    "pcm_f16le,pcm_f24le,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)
#: Subtitles that are text.
_SUBTITLES = "mov_text,subrip,srt,ass,ssa,webvtt,text"
_IMAGES = "png,mjpeg,webp,bmp,gif"

#: All decoders that libav may open, for its option `codec_whitelist`.
DECODERS = f"{_VIDEO},{_AUDIO},{_SUBTITLES},{_IMAGES}"


_ACCEPTED = {"video": _VIDEO, "audio": _AUDIO, "subtitle": _SUBTITLES}


def is_accepted(decoder: str | None, kind: Literal["video", "audio", "subtitle"] = "video") -> bool:
    """Return whether streams that need this decoder are decoded. None stands for an unknown one."""
    return decoder in _ACCEPTED[kind].split(",")
