"""What the zoo's models are asked: real pictures, text, sound and tables.

Every function named after a model returns its cases, each a dict of input name
and array.
"""

import json

import numpy as np

F32 = np.float32


# ------------------------------------------------------------------ pictures


def photo(name):
    import skimage.data

    return np.asarray(getattr(skimage.data, name)())[..., :3]


def resized(array, width, height, how):
    from PIL import Image

    method = getattr(Image.Resampling, how)
    return np.asarray(Image.fromarray(array).resize((width, height), method))


def imagenet(array, side=224):
    """EfficientNet-Lite's recipe: float [1, 3, side, side] of RGB pixels."""
    height, width = array.shape[:2]
    square = int(side / (side + 32) * min(height, width))
    top, left = (height - square + 1) // 2, (width - square + 1) // 2
    small = resized(array[top : top + square, left : left + square], side, side, "BICUBIC")
    return ((small.astype(F32) - 127) / 128).transpose(2, 0, 1)[None]


def written(text, width, height, size, upside_down=False):
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (width, height), (255, 255, 255))
    font = ImageFont.load_default(size=size)
    place = (width // 40, (height - size) // 3)
    ImageDraw.Draw(picture).text(place, text, fill=(20, 20, 20), font=font)
    return np.asarray(picture.rotate(180) if upside_down else picture)


def line_of_text(text, width=320, upside_down=False):
    pixels = written(text, width, 48, 32, upside_down)[:, :, ::-1].astype(F32)
    return ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]


def page(pixels, longest):
    height, width = pixels.shape[:2]
    ratio = min(1.0, longest / max(height, width))
    side = lambda length: max(32, round(length * ratio / 32) * 32)
    small = resized(pixels, side(width), side(height), "BILINEAR")[:, :, ::-1].astype(F32) / 255
    mean = np.array([0.485, 0.456, 0.406], F32)
    deviation = np.array([0.229, 0.224, 0.225], F32)
    return ((small - mean) / deviation).transpose(2, 0, 1)[None]


def digits_cnn():
    from sklearn.datasets import load_digits

    images = (load_digits().images / 16).astype(F32)[:, None]
    return [{"image": images[:1]}, {"image": images[:10]}]


def efficientnet_lite0():
    cat, coffee, rocket, astronaut = (
        imagenet(photo(name)) for name in ("cat", "coffee", "rocket", "astronaut")
    )
    return [
        {"images": cat},
        {"images": coffee},
        {"images": np.concatenate([rocket, astronaut, cat])},
    ]


def ppocr_v2_cls():
    upright = line_of_text("Model serving", 192)
    turned = line_of_text("Model serving", 192, upside_down=True)
    return [{"x": upright}, {"x": np.concatenate([upright, turned])}]


def ppocr_v4_det():
    import skimage.data

    scan = np.repeat(np.asarray(skimage.data.page())[..., None], 3, 2)
    return [
        {"x": page(scan, longest=384)},
        {"x": page(written("Burn serves ONNX models", 320, 160, 24), longest=640)},
    ]


def ppocr_v4_rec():
    two = np.concatenate([line_of_text("Hello Burn 2026"), line_of_text("ONNX runtime 42")])
    return [{"x": two[:1]}, {"x": two}, {"x": line_of_text("short", 160)}]


def mtcnn_rnet():
    corner = photo("astronaut")[0:220, 120:340]
    face = ((resized(corner, 24, 24, "BILINEAR").astype(F32) - 127.5) / 128)[None]
    return [
        {"input_2": face},
        {"input_2": np.concatenate([face, face[:, :, ::-1], face * F32(0.5)])},
    ]


def light():
    """Inputs of the constant-weight architectures that the onnx package ships."""
    count = 3 * 224 * 224
    return (np.arange(count).reshape(1, 3, 224, 224) / count).astype(F32)


# --------------------------------------------------------------------- sound


def voice(seconds, rate=16000, pitch=120.0):
    """Vowels by formant synthesis, in syllables, with a pause at both ends."""
    from scipy.signal import lfilter

    count = int(seconds * rate)
    t = np.arange(count) / rate
    tone = pitch * (1 + 0.08 * np.sin(2 * np.pi * 2.1 * t) + 0.01 * np.sin(2 * np.pi * 31 * t))
    pulses = (np.diff(np.floor(np.cumsum(tone) / rate), prepend=0) > 0).astype(float)
    noise = np.random.default_rng(7).standard_normal(count)
    source = lfilter([1], [1, -0.96], pulses) + 0.002 * noise
    vowels = [
        (730, 1090, 2440),
        (270, 2290, 3010),
        (300, 870, 2240),
        (530, 1840, 2480),
        (570, 840, 2410),
    ]
    sound = np.zeros(count)
    syllable = int(0.18 * rate)
    radius = np.exp(-np.pi * 90 / rate)
    for start in range(0, count, syllable):
        x = source[max(0, start - 800) : start + syllable]
        for formant in vowels[(start // syllable) % 5]:
            pole = [1, -2 * radius * np.cos(2 * np.pi * formant / rate), radius * radius]
            x = lfilter([1 - radius], pole, x)
        x = x[-min(syllable, count - start) :]
        envelope = np.hanning(len(x)) ** 0.4
        sound[start : start + len(x)] = x / (np.abs(x).max() + 1e-9) * envelope
    pause = int(0.3 * rate)
    sound[:pause] *= 0.001
    sound[-pause:] *= 0.001
    hiss = np.random.default_rng(8).standard_normal(count)
    return (0.5 * sound + 0.0005 * hiss).astype(F32)


def silero_vad_seq():
    sound = np.concatenate([np.zeros(64, F32), voice(2.0)])
    chunks = np.stack([sound[i * 512 : i * 512 + 576] for i in range(60)])
    state = np.zeros((1, 1, 128), F32)
    return [
        {"input": chunks, "h": state, "c": state},
        {"input": chunks[:7], "h": state, "c": state},
    ]


def oww_melspec():
    sound = voice(1.0) * F32(32767)
    return [
        {"input": sound[None]},
        {"input": np.stack([sound[:12640], sound[3000:15640]])},
    ]


# ------------------------------------------------------------ text and tables

SENTENCES = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The girl is carrying a baby.",
    "The quarterly revenue report was published on Tuesday by the finance department.",
]


def minilm_l3(tokenizer_json):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(128)

    def case(sentences):
        tokens = tokenizer.encode_batch(sentences)
        return {
            "input_ids": np.array([t.ids for t in tokens], np.int64),
            "attention_mask": np.array([t.attention_mask for t in tokens], np.int64),
        }

    return [case(SENTENCES[:1]), case(SENTENCES)]


def magika():
    """The first and last 1024 bytes of a file; 256 where there are none."""

    def features(data):
        data = data.strip()
        missing = [256] * max(0, 1024 - len(data))
        return np.array([*data[:1024], *missing, *missing, *data[-1024:]], np.int32)

    python = b"import os\nimport sys\n\ndef main(argv):\n    for a in argv:\n        print(os.path.abspath(a))\n"
    rust = b"use std::collections::HashMap;\n\nfn main() {\n    let m: HashMap<u8, u8> = HashMap::new();\n}\n"
    table = {"name": "ops", "ops": [{"type": "Conv", "n": i} for i in range(60)]}
    files = np.stack([features(d) for d in (python * 4, rust * 4, json.dumps(table).encode())])
    return [{"bytes": files[:1]}, {"bytes": files}]


def skl_mlp_reg():
    from sklearn.datasets import load_iris

    rows = load_iris().data.astype(F32)[::15, :3]
    return [{"X": rows[:1]}, {"X": rows}]
