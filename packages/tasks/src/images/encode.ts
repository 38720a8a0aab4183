import { hostTensor, type InputBatch, type Storage } from '@peftjs/core';
import {
  ConfigError,
  DataError,
  integerFrom,
  parseOptions,
  warnOnce,
  type HostTensors,
  type Rng,
} from '@peftjs/core/method';
import {
  aFunction,
  aReadStorage,
  assertArgument,
  closed,
  firstNames,
  freeMemory,
  objectLike,
} from '@peftjs/core/model';
import * as v from 'valibot';
import { cut, madeWhenRead, type BatchOptions } from '../batches.js';
import { aDataSet, fingerprintOf, sha256, type DataSet } from '../data-set.js';
import type { EncodedData, EncodedRow, EncodedMultiLabelRow } from '../encode.js';
import { readBytes } from '../read-table.js';
import { decodeImage, type DecodeImage } from './decode.js';
import type { ImageProcessor } from './processor.js';

/** Kinds of data whose rows may be images. */
export type ImageKind = 'classification' | 'regression' | 'multi-label';

/** How images are changed at random in training: in the same way for the same seed, epoch and row. */
export interface Augmentation {
  /** Whether to mirror images, left to right, with probability 1/2. Default false: digits and letters have a side. */
  readonly flip?: boolean | undefined;
  /**
   * The most pixels by which an image is shifted along either axis, i.e. a crop of the image with that much border,
   * which repeats its edge. Default 0.
   */
  readonly crop?: number | undefined;
}

/** Options of `encodeImages`. */
export interface EncodeImagesOptions {
  /** What the model's `preprocessor_config.json` says: see `imageProcessor`. */
  readonly processor: ImageProcessor;
  /** Reads the files. */
  readonly storage: Storage;
  /** The folder that the paths of the rows start from. Default: none. */
  readonly folder?: string | undefined;
  /** Changes of the images in training. Default: none. */
  readonly augmentation?: Augmentation | undefined;
  /** Decodes an image. Default: sharp in Node, a canvas in a page. */
  readonly decode?: DecodeImage | undefined;
}

const entries = {
  processor: objectLike<ImageProcessor>('an image processor, of imageProcessor', {
    fitted: 'function',
    write: 'function',
  }),
  storage: aReadStorage,
  folder: v.optional(v.string()),
  augmentation: v.optional(closed({ flip: v.optional(v.boolean()), crop: v.optional(integerFrom(0)) })),
  decode: v.optional(aFunction),
} satisfies Record<keyof EncodeImagesOptions, unknown>;

/** Data whose rows are images. */
export interface EncodedImages<K extends ImageKind = ImageKind> extends EncodedData<K> {
  /** SHA-256, in hexadecimal, of the images, the labels and the processor's settings. */
  readonly fingerprint: string;
}

/**
 * Reads the images whose paths are the texts of a data set, e.g. one of `imageRows`, or of `readTable` with the
 * option `textColumn`. They are held in memory at the size that the network reads, 3 bytes for each pixel.
 * @throws DataError in one line with the file's name, for one that is missing, broken, too large or of another format,
 * and when the images do not fit into the free memory; ConfigError for an impossible option, and in Node without sharp.
 */
export async function encodeImages<K extends ImageKind>(
  dataSet: DataSet<K>,
  options: EncodeImagesOptions,
): Promise<EncodedImages<K>> {
  assertArgument('dataSet', dataSet, aDataSet);
  parseOptions('encodeImages', entries, options);
  const { processor, storage, folder = '', augmentation, decode } = options;
  const { name, kind, classes, rows } = dataSet;
  const size = 3 * processor.height * processor.width;
  assertFits(name, rows.length * size);
  const pixels: Uint8Array[] = [];
  const hashes: string[] = [];
  for (const row of rows) {
    if (row.pair !== undefined) throw new DataError(`${name}: expected one image in each row, got two`, name);
    const path = folder === '' || row.text.startsWith('/') ? row.text : `${folder}/${row.text}`;
    const fitted = processor.fitted(await decodeImage(await readBytes(storage, path), path, decode));
    pixels.push(fitted);
    hashes.push(await sha256(fitted));
  }
  const labels = rows.map((row) => ('label' in row ? row.label : row.labels));
  return {
    ...{ name, kind, classes, maxTokens: 1, truncated: 0 },
    fingerprint: await fingerprintOf(
      [kind, classes, processor.settings],
      labels.map((label, at) => [hashes[at], label]),
    ),
    rows: rows.map((row, image): EncodedRow | EncodedMultiLabelRow => ({
      ids: Int32Array.of(image),
      ...('label' in row ? { label: row.label } : { labels: row.labels }),
    })) as readonly unknown[] as EncodedImages<K>['rows'],
    inputs: (own, rng) =>
      pixelValues(
        own.map(({ ids }) => ids[0] as number),
        { pixels, processor, augmentation, rng },
      ),
  };
}

/**
 * Batches of images to compute outputs for; row n is image n.
 * @param pixels images of the size that the network reads: see `ImageProcessor.fitted`
 */
export function imageBatches(
  pixels: readonly Uint8Array[],
  processor: ImageProcessor,
  { batchSize }: Pick<BatchOptions, 'batchSize'>,
): InputBatch[] {
  return cut([...pixels.keys()], batchSize).map((rows) =>
    madeWhenRead(rows, () => pixelValues(rows, { pixels, processor })),
  );
}

interface Images {
  readonly pixels: readonly Uint8Array[];
  readonly processor: ImageProcessor;
  readonly augmentation?: Augmentation | undefined;
  readonly rng?: Rng | undefined;
}

/** `pixelValues` [batch, 3, height, width] */
function pixelValues(rows: readonly number[], { pixels, processor, augmentation, rng }: Images): HostTensors {
  const { height, width } = processor;
  const values = new Float32Array(3 * rows.length * height * width);
  for (const [place, row] of rows.entries()) {
    const own = rng && augmentation && reading(processor, augmentation, rng.fork(`image ${row}`));
    processor.write(pixels[row] as Uint8Array, values, 3 * place * height * width, own);
  }
  return { pixelValues: hostTensor(values, [rows.length, 3, height, width]) };
}

/** The pixel that is read for each pixel of a changed image. */
function reading(
  { height, width }: ImageProcessor,
  { flip = false, crop = 0 }: Augmentation,
  rng: Rng,
): (row: number, column: number) => number {
  const isFlipped = flip && rng.uniform() < 0.5;
  const [down, across] = [0, 1].map(() => rng.integer(2 * crop + 1) - crop) as [number, number];
  const within = (at: number, length: number): number => Math.max(0, Math.min(length - 1, at));
  return (row, column) => {
    const seen = within(column + across, width);
    return within(row + down, height) * width + (isFlipped ? width - 1 - seen : seen);
  };
}

/** @throws DataError when images do not fit into the free memory. */
function assertFits(name: string, bytes: number): void {
  const free = freeMemory();
  if (free === undefined || bytes < free) return;
  const [needed, have] = [bytes, free].map((count) => Math.ceil(count / 1e6));
  throw new DataError(`${name}: the images take ${needed} MB of memory, ${have} MB are free: use fewer images`, name);
}

/**
 * Returns the images of a folder as rows: `<class>/<file>`, and the names of the classes. Files whose names do not end
 * in `.png`, `.jpg` or `.jpeg` are left out, and hidden ones.
 * @param paths the paths of all files in the folder, e.g. of `readdir(folder, { recursive: true })`
 * @param name the name of the data set
 * @param like the classes that the folder must have, e.g. those of the training data
 * @throws DataError when there are fewer than two classes or no images, and for an image outside of a class folder;
 * ConfigError for a class that is not in `like`.
 */
export function imageRows(
  paths: readonly string[],
  name: string,
  like?: readonly string[],
): Omit<DataSet<'classification'>, 'fingerprint'> {
  const shown = paths.map((path) => path.replaceAll('\\', '/')).filter((path) => !/(^|\/)\.[^./]/.test(path));
  const images = shown.filter((path) => /\.(png|jpe?g)$/i.test(path)).sort();
  const others = shown.filter((path) => /\.(webp|gif|bmp|tiff?|avif|heic)$/i.test(path));
  if (others.length > 0)
    warnOnce(`${name}: left out ${others.length} images that are not PNG or JPEG, such as ${others[0]}`);
  const classOf = (path: string): string => path.split('/').at(-2) ?? '';
  const lost = images.find((path) => !path.includes('/'));
  if (lost !== undefined)
    throw new DataError(`${name}/${lost}: expected images in a folder for each class, e.g. ${name}/cat/${lost}`, name);
  const found = [...new Set(images.map(classOf))].sort();
  const classes = like ?? found;
  if (classes.length < 2)
    throw new DataError(
      `${name}: expected PNG or JPEG images in at least two folders, one for each class, got ${firstNames(found)}`,
      name,
    );
  if (images.length === 0) throw new DataError(`${name}: expected PNG or JPEG images to evaluate on, got none`, name);
  const odd = found.find((each) => !classes.includes(each));
  if (odd !== undefined)
    throw new ConfigError(`${name}: '${odd}' is not a class of the training images: ${firstNames(classes)}`, name);
  return {
    name,
    kind: 'classification',
    classes,
    rows: images.map((text) => ({ text, label: classes.indexOf(classOf(text)) })),
  };
}
