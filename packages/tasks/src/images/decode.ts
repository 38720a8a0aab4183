import { ConfigError, DataError, UnsupportedError } from '@peftjs/core/method';

/** An image as red, green and blue bytes, pixel after pixel and row after row. */
export interface DecodedImage {
  /** Pixels of a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** [height, width, 3] */
  readonly data: Uint8Array;
}

/** Decodes the bytes of a PNG or JPEG file. An alpha channel is dropped, and an image is turned as its EXIF says. */
export type DecodeImage = (bytes: Uint8Array) => Promise<DecodedImage>;

/** The most pixels of an image: 8192 x 8192. A file of a few kilobytes may claim far more. */
export const MAX_PIXELS = 2 ** 26;

/**
 * Decodes a PNG or JPEG file: by `sharp` in Node, by a canvas in a page.
 * @param path the file's name, for messages
 * @throws DataError in one line with the path, for another format, a broken file and more than 2^26 pixels; ConfigError
 * in Node when `sharp` is not installed.
 */
export async function decodeImage(
  bytes: Uint8Array,
  path: string,
  decode: DecodeImage = ownDecoder(),
): Promise<DecodedImage> {
  const { width, height } = sizeIn(bytes, path);
  if (width * height > MAX_PIXELS || width < 1 || height < 1) {
    throw new DataError(`${path}: expected 1 to ${MAX_PIXELS} pixels, got ${width} x ${height}`, path);
  }
  try {
    const image = await decode(bytes);
    if (image.data.length === 3 * image.width * image.height && image.width > 0) return image;
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
    throw new DataError(`${path}: the image cannot be decoded: ${reason ?? ''}`, path, cause);
  }
  throw new DataError(`${path}: the image cannot be decoded to red, green and blue`, path);
}

/** Reads the size from the head of a file. @throws DataError for another format and a file that ends too early. */
function sizeIn(bytes: Uint8Array, path: string): Pick<DecodedImage, 'width' | 'height'> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (view.getUint32(0) === PNG && view.getUint32(12) === IHDR) {
      return { width: view.getUint32(16), height: view.getUint32(20) };
    }
    if (view.getUint16(0) === JPEG) return sizeInJpeg(view);
  } catch (cause) {
    throw new DataError(`${path}: expected a PNG or JPEG image, got a file that ends too early`, path, cause);
  }
  throw new DataError(`${path}: expected a PNG or JPEG image, got a file of another type`, path);
}

const [PNG, IHDR, JPEG] = [0x89504e47, 0x49484452, 0xffd8];

/** The frame header of a JPEG file, behind segments of given lengths. */
function sizeInJpeg(view: DataView): Pick<DecodedImage, 'width' | 'height'> {
  for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
    while (view.getUint16(at) === 0xffff) at++; // padding
    const marker = view.getUint8(at + 1);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
  }
}

function ownDecoder(): DecodeImage {
  return 'OffscreenCanvas' in globalThis ? decodedByPage : decodedBySharp;
}

/** The part of sharp that is used here. */
type Sharp = (bytes: Uint8Array, options: Readonly<Record<string, unknown>>) => SharpImage;
interface SharpImage {
  /** The colour space of the file. */
  metadata(): Promise<{ space?: string }>;
  pipelineColourspace(name: string): SharpImage;
  toColourspace(name: string): SharpImage;
  removeAlpha(): SharpImage;
  raw(): SharpImage;
  toBuffer(options: {
    resolveWithObject: true;
  }): Promise<{ data: Uint8Array; info: { width: number; height: number } }>;
}

async function decodedBySharp(bytes: Uint8Array): Promise<DecodedImage> {
  const sharp = await importSharp();
  const options = { limitInputPixels: MAX_PIXELS, failOn: 'error', ignoreIcc: true, autoOrient: true };
  const file = sharp(bytes, options);
  const isCmyk = (await file.metadata()).space === 'cmyk';
  // sharp would convert inks with its own colour profile, even with `ignoreIcc`.
  const image = isCmyk
    ? file.pipelineColourspace('cmyk').toColourspace('cmyk')
    : file.toColourspace('srgb').removeAlpha();
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data: isCmyk ? fromInks(data) : data };
}

/** [height, width, 3] of [height, width, 4] cyan, magenta, yellow and black, with the rounding of Pillow. */
function fromInks(inks: Uint8Array): Uint8Array {
  return new Uint8Array((inks.length / 4) * 3).map((_, at) => {
    const pixel = Math.floor(at / 3);
    const light = 255 - (inks[4 * pixel + 3] as number);
    const taken = (inks[at + pixel] as number) * light + 128;
    return light - (((taken >> 8) + taken) >> 8); // taken / 255, rounded
  });
}

const SHARP = 'sharp';

async function importSharp(): Promise<Sharp> {
  try {
    // The name is a variable so that bundlers leave it alone: a page does not need sharp.
    return ((await import(/* @vite-ignore */ /* webpackIgnore: true */ SHARP)) as { readonly default: Sharp }).default;
  } catch (cause) {
    throw new ConfigError("images are read by the package 'sharp': npm install sharp", SHARP, cause);
  }
}

/** The part of a page that is used here. */
interface Page {
  createImageBitmap(blob: Blob, options: Readonly<Record<string, string>>): Promise<Bitmap>;
  readonly OffscreenCanvas: new (width: number, height: number) => Canvas;
  /** Not in every browser. */
  readonly ImageDecoder?: new (options: Readonly<Record<string, unknown>>) => Decoder;
}
interface Bitmap {
  readonly width: number;
  readonly height: number;
  close(): void;
}
interface Canvas {
  getContext(kind: '2d'): {
    drawImage(image: Bitmap, x: number, y: number): void;
    getImageData(x: number, y: number, width: number, height: number): { readonly data: Uint8ClampedArray };
  };
}
interface Decoder {
  decode(): Promise<{ readonly image: Frame }>;
  close(): void;
}
interface Frame {
  /** The order of the bytes of a pixel. */
  readonly format: string | null;
  copyTo(into: Uint8Array): Promise<unknown>;
  close(): void;
}

const AS_STORED = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };

async function decodedByPage(bytes: Uint8Array): Promise<DecodedImage> {
  const page = globalThis as unknown as Page;
  const bitmap = await page.createImageBitmap(new Blob([bytes.slice()]), AS_STORED);
  const { width, height } = bitmap;
  const context = new page.OffscreenCanvas(width, height).getContext('2d');
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const drawn = context.getImageData(0, 0, width, height).data;
  const isOpaque = drawn.every((byte, at) => at % 4 < 3 || byte === 255);
  const data = isOpaque ? drawn : await transparent(bytes, drawn.length, page);
  return {
    width,
    height,
    data: Uint8Array.from({ length: 3 * width * height }, (_, at) => data[at + Math.floor(at / 3)] as number),
  };
}

/** [height, width, 4] of a PNG file with an alpha channel: a canvas loses the colours of transparent pixels. */
async function transparent(bytes: Uint8Array, length: number, { ImageDecoder }: Page): Promise<Uint8Array> {
  if (!ImageDecoder)
    throw new UnsupportedError('this browser does not read images with transparent pixels: remove the alpha channel');
  const decoder = new ImageDecoder({ data: bytes, type: 'image/png', ...AS_STORED });
  const { image } = await decoder.decode();
  const { format } = image;
  const data = new Uint8Array(length);
  await image.copyTo(data); // as it is: in another format, colours would be multiplied by alpha on the way
  image.close();
  decoder.close();
  if (format === 'BGRA') return data.map((byte, at) => (at % 4 > 2 || at % 4 === 1 ? byte : (data[at ^ 2] as number)));
  if (format === 'RGBA') return data;
  throw new UnsupportedError(`this browser decodes the image as ${format ?? 'nothing'}`);
}
