"""Makes the inputs and expected tensors of this folder with Pillow and numpy.

    pip install pillow==13.0.0 numpy && python make.py

Pillow decodes, converts, crops and resizes; `cases.json` says which configuration gives which
tensor, and within how many of 255 levels. PNG files are written here and not by Pillow, which
cannot write all kinds (Adam7, 2 bits, 16 bits a channel).
"""

import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CASES = []


def picture(height, width, seed):
    """Smooth shapes, sharp edges and some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 255 / width, y * 255 / height, 128 + 100 * np.sin((x + y) / 3)], axis=2)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 5)
    smooth[height // 2 :, width // 2 : width // 2 + 3] = 0
    return np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def scanlines(samples, depth):
    """Rows of [height, width, channels], each with filter 0."""
    rows = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        elif depth == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            shifts = np.arange(depth - 1, -1, -1)
            packed = np.packbits((row[:, None] >> shifts & 1).astype(np.uint8)).tobytes()
        rows += b"\0" + packed
    return rows


def png(samples, color_type, depth=8, adam7=False, palette=None, transparency=None):
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(adam7))
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in passes] if adam7 else [samples]
    rows = b"".join(scanlines(part, depth) for part in parts if part.size)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if palette is not None:
        file += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparency is not None:
        file += chunk(b"tRNS", transparency)
    return file + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def write(name, content):
    (HERE / name).write_bytes(content)
    return name


def jpeg(name, array, mode=None, **options):
    image = Image.fromarray(array, mode) if mode else Image.fromarray(array)
    image.save(HERE / name, "jpeg", **options)
    return name


def channels(config, value, count):
    values = config.get(value, {"mean": 0, "scale": 1}[value])
    return np.array(values if isinstance(values, list) else [values] * count, np.float32)


def expected(image, config):
    """What the plugin should make of a Pillow image in mode RGB or L."""
    color = config.get("color", "rgb")
    image = image.convert("L" if color == "gray" else "RGB")
    if "crop" in config:
        width, height = image.size
        side = int(config["crop"] * min(width, height))
        x, y = (width - side + 1) // 2, (height - side + 1) // 2
        image = image.crop((x, y, x + side, y + side))
    if "size" in config:
        height, width = config["size"]
        image = image.resize((width, height), FILTERS[config.get("resize", "bilinear")])
    array = np.asarray(image)
    array = array[:, :, None] if array.ndim == 2 else array
    if color == "bgr":
        array = array[:, :, ::-1]
    if config.get("dtype", "float32") == "float32":
        depth = array.shape[2]
        array = (array.astype(np.float32) - channels(config, "mean", depth)) / channels(config, "scale", depth)
    if config.get("layout", "nchw") == "nchw":
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array)


def case(name, file, config, levels=0, image=None, raw_shape=None):
    image = image or Image.open(HERE / file)
    tensor = expected(image, config)
    write(f"{name}.bin", tensor.tobytes())
    made = {"name": name, "file": file, "config": config, "shape": list(tensor.shape), "levels": levels}
    if raw_shape:
        made["raw_shape"] = raw_shape
    CASES.append(made)


def png_cases():
    rgb = picture(30, 41, 1)
    alpha = np.random.default_rng(2).integers(0, 256, (30, 41, 1), np.uint8)
    gray = rgb[:, :, :1]
    rgb_file = write("rgb.png", png(rgb, 2))
    normal = {"mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]}
    case("bicubic-down", rgb_file, {"size": [16, 12], "resize": "bicubic", **normal})
    case("bilinear-down-nhwc", rgb_file, {"size": [9, 11], "layout": "nhwc", "dtype": "uint8"})
    case("bicubic-up", rgb_file, {"size": [45, 60], "resize": "bicubic", "dtype": "uint8"})
    case("bilinear-up", rgb_file, {"size": [31, 83], "dtype": "uint8"})
    case("one-axis-up-the-other-down", rgb_file, {"size": [3, 70], "resize": "bicubic", "dtype": "uint8"})
    tall = write("tall.png", png(picture(64, 30, 6), 2))
    case("down-first", tall, {"size": [16, 20], "resize": "bicubic", "dtype": "uint8"})
    case("to-one-pixel", rgb_file, {"size": [1, 1], "resize": "bicubic", "dtype": "uint8"})
    case("same-size", rgb_file, {"dtype": "uint8", "layout": "nhwc"})
    case("bgr", rgb_file, {"color": "bgr", "size": [8, 8], "mean": [1, 2, 3], "scale": 2})
    case("gray", rgb_file, {"color": "gray", "size": [8, 8], "scale": 255})
    case("crop", rgb_file, {"crop": 0.875, "size": [12, 12], "resize": "bicubic", "mean": 127, "scale": 128})
    case("crop-only", rgb_file, {"crop": 0.5, "dtype": "uint8"})

    small = {"size": [10, 10], "dtype": "uint8"}
    case("png-rgba", write("rgba.png", png(np.dstack([rgb, alpha]), 6)), small)
    case("png-rgba-gray", "rgba.png", {"color": "gray", **small})
    case("png-rgb-transparent-color", write("rgb-trns.png", png(rgb, 2, transparency=b"\0\1\0\2\0\3")), small)
    case("png-gray", write("gray.png", png(gray, 0)), small)
    case("png-gray-to-gray", "gray.png", {"color": "gray", **small})
    case("png-gray-alpha", write("gray-alpha.png", png(np.dstack([gray, alpha]), 4)), small)
    case("png-adam7", write("adam7.png", png(rgb, 2, adam7=True)), small)
    for depth in (1, 2, 4):
        levels = gray >> (8 - depth)
        case(f"png-gray-{depth}", write(f"gray-{depth}.png", png(levels, 0, depth)), small)
    palette = np.random.default_rng(3).integers(0, 256, (16, 3))
    indexed = write("palette.png", png(gray >> 4, 3, 4, palette=palette))
    case("png-palette", indexed, small)
    case("png-palette-gray", indexed, {"color": "gray", **small})
    transparent = png(gray >> 4, 3, 4, adam7=True, palette=palette, transparency=bytes(range(16)))
    case("png-palette-transparent-adam7", write("palette-trns.png", transparent), small)
    wide = rgb.astype(np.uint16) * 251 + 77
    case("png-rgb-16", write("rgb-16.png", png(wide, 2, 16)), small, image=Image.fromarray((wide >> 8).astype(np.uint8)))
    # Pillow clips 16-bit grey at 255; like its 16-bit colour, the plugin takes the high byte.
    high = Image.fromarray((wide[:, :, 0] >> 8).astype(np.uint8))
    case("png-gray-16", write("gray-16.png", png(wide[:, :, :1], 0, 16)), small, image=high)


def jpeg_cases():
    rgb = picture(50, 67, 4)
    same = {"dtype": "uint8", "layout": "nhwc"}
    small = {"size": [24, 24], "resize": "bicubic", "mean": 127, "scale": 128}
    for name, options in {
        "444": {"subsampling": "4:4:4"},
        "422": {"subsampling": "4:2:2"},
        "420": {"subsampling": "4:2:0"},
        "progressive": {"subsampling": "4:2:0", "progressive": True},
        "restarts": {"subsampling": "4:2:0", "restart_marker_blocks": 2},
    }.items():
        file = jpeg(f"{name}.jpg", rgb, quality=85, **options)
        case(f"jpeg-{name}", file, same, levels=JPEG_LEVELS)
        case(f"jpeg-{name}-small", file, small, levels=JPEG_SMALL_LEVELS)
    gray = jpeg("gray.jpg", rgb[:, :, 1].copy(), quality=85)
    case("jpeg-gray", gray, same, levels=JPEG_LEVELS)
    case("jpeg-color-to-gray", "420.jpg", {"color": "gray", **same}, levels=JPEG_LEVELS)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    cmyk.save(HERE / "cmyk.jpg", "jpeg", quality=90)
    case("jpeg-cmyk", "cmyk.jpg", same, levels=JPEG_LEVELS)
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = jpeg("exif-rotated.jpg", rgb, quality=85, subsampling="4:4:4", exif=exif)
    case("jpeg-exif-rotation-is-ignored", rotated, same, levels=JPEG_LEVELS)


def raw_cases():
    rgb = picture(25, 20, 5)
    gray = rgb[:, :, 0].copy()
    color = {"input": "raw", "size": [14, 14], "resize": "bicubic", "dtype": "uint8"}
    rgb_file = write("rgb.raw", rgb.tobytes())
    bgr_file = write("bgr.raw", rgb[:, :, ::-1].tobytes())
    image = Image.fromarray(rgb)
    case("raw-rgb", rgb_file, color, image=image, raw_shape=[25, 20, 3])
    bgr = {**color, "input_color": "bgr"}
    case("raw-bgr-to-rgb", bgr_file, bgr, image=image, raw_shape=[25, 20, 3])
    case("raw-bgr-to-bgr", bgr_file, {**bgr, "color": "bgr"}, image=image, raw_shape=[25, 20, 3])
    case("raw-bgr-to-gray", bgr_file, {**bgr, "color": "gray"}, image=image, raw_shape=[25, 20, 3])
    case("raw-rgb-to-bgr", rgb_file, {**color, "color": "bgr"}, image=image, raw_shape=[25, 20, 3])
    write("gray.raw", gray.tobytes())
    case("raw-gray", "gray.raw", {**color, "input_color": "gray", "color": "gray"}, image=Image.fromarray(gray), raw_shape=[25, 20, 1])
    case("raw-gray-to-rgb", "gray.raw", {**color, "input_color": "gray"}, image=Image.fromarray(gray), raw_shape=[25, 20, 1])


# The decoders round differently: libjpeg-turbo in Pillow, zune-jpeg in the plugin.
JPEG_LEVELS = 4
JPEG_SMALL_LEVELS = 2

png_cases()
jpeg_cases()
raw_cases()
lines = ",\n".join("  " + json.dumps(one) for one in CASES)
write("cases.json", f"[\n{lines}\n]\n".encode())
print(f"{len(CASES)} cases, {sum(f.stat().st_size for f in HERE.iterdir())} bytes")
