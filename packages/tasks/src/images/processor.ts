import { ConfigError, integerFrom, positive, UnsupportedError } from '@peftjs/core/method';
import * as v from 'valibot';
import type { DecodedImage } from './decode.js';
import { FILTERS, resized } from './resample.js';

/** Turns images into what a network reads, as its `preprocessor_config.json` says. */
export interface ImageProcessor {
  /** The sides of the images that the network reads, in pixels. */
  readonly height: number;
  readonly width: number;
  /** The settings as JSON: part of the data's identity. */
  readonly settings: string;
  /** Resizes and crops an image: bytes [height, width, 3]. */
  fitted(image: DecodedImage): Uint8Array;
  /**
   * Rescales and normalises bytes [height, width, 3] to float32 [3, height, width], written to `into` from `start` on.
   * @param place the place in `pixels` of the pixel that is read for a row and a column. Default: its own.
   */
  write(pixels: Uint8Array, into: Float32Array, start: number, place?: (row: number, column: number) => number): void;
}

const side = v.pipe(integerFrom(1), v.maxValue(4096));
const square = v.pipe(
  side,
  v.transform((edge) => ({ height: edge, width: edge })),
);
const rectangle = v.object({ height: side, width: side });
const perChannel = (each: typeof positive) => v.pipe(v.array(each), v.length(3));
const flag = (fallback: boolean) => v.optional(v.nullable(v.boolean()), fallback);

/** The means and deviations of CLIP's pretraining images. */
const OF_CLIP = {
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
};

/** The settings that a file of transformers may leave out, where they are not those of ViT. */
const DEFAULTS: readonly (readonly [type: RegExp, settings: object])[] = [
  [/^(CLIP|Bit|DeiT|Siglip)/, { resample: 3 }],
  [/^(CLIP|Bit|DeiT)/, { do_center_crop: true }],
  [/^(CLIP|Bit)/, OF_CLIP],
];

/** Adds the settings that the file's processor has unless it says otherwise. */
function completed(settings: Record<string, unknown>): object {
  const own = DEFAULTS.filter(([type]) => type.test(typeOf(settings))).map(([, usual]) => usual);
  return Object.assign({}, ...own, settings) as object;
}

/** Returns the name of the file's processor, e.g. `CLIPImageProcessor`. */
function typeOf({ image_processor_type: type, feature_extractor_type: former }: Record<string, unknown>): string {
  return [type, former].find((name) => typeof name === 'string') ?? '';
}

const schema = v.pipe(
  v.record(v.string(), v.unknown()),
  v.transform(completed),
  v.object({
    image_processor_type: v.optional(v.string()),
    feature_extractor_type: v.optional(v.string()),
    do_resize: flag(true),
    size: v.optional(v.union([side, rectangle, v.object({ shortest_edge: side })])),
    resample: v.optional(v.number(), 2),
    do_center_crop: flag(false),
    crop_size: v.optional(v.nullable(v.union([square, rectangle]))),
    do_rescale: flag(true),
    rescale_factor: v.optional(positive, 1 / 255),
    do_normalize: flag(true),
    image_mean: v.optional(perChannel(v.pipe(v.number(), v.finite()) as unknown as typeof positive), [0.5, 0.5, 0.5]),
    image_std: v.optional(perChannel(positive), [0.5, 0.5, 0.5]),
    do_pad: flag(false),
  }),
);

/** Processors of transformers for which a `size` of one number is the shorter side. */
const BY_SHORTEST = /^(CLIP|Bit|Siglip)/;

/**
 * Reads the content of a `preprocessor_config.json` of ViT, DeiT, DINOv2, CLIP or SigLIP. Settings of other processors
 * are ignored; padding is refused.
 * @param settings the file's content as JSON
 * @param file the file's name, for messages
 * @throws ConfigError for an invalid setting, or when none fixes the size; UnsupportedError for another way of resizing
 * and for padding.
 */
export function imageProcessor(settings: unknown, file = 'preprocessor_config.json'): ImageProcessor {
  const parsed = v.safeParse(schema, settings);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    const setting = v.getDotPath(issue) ?? 'the content';
    throw new ConfigError(`${file}: ${setting} must be ${issue.expected ?? 'valid'}, got ${issue.received}`, setting);
  }
  const given = parsed.output;
  const { do_resize: resizes, do_center_crop: crops, crop_size: crop, size, resample } = given;
  if (given.do_pad === true)
    throw new UnsupportedError(`${file}: images that are padded (do_pad) are not read`, 'do_pad');
  const filter = FILTERS[resample];
  if (resizes && !filter) {
    throw new UnsupportedError(
      `${file}: resample ${resample} is not known; 1, 2 and 3 are (Lanczos, linear, cubic)`,
      'resample',
    );
  }
  const wanted = typeof size !== 'number' ? size : BY_SHORTEST.test(typeOf(given)) ? { shortest_edge: size } : { height: size, width: size }; // prettier-ignore
  const isCropped = crops === true && crop !== undefined && crop !== null;
  const sides = isCropped ? crop : wanted && 'height' in wanted ? wanted : undefined;
  if (!sides || (resizes && !wanted) || (crops && !isCropped)) {
    throw new ConfigError(
      `${file}: expected size (height and width) or crop_size, so that all images have one size`,
      'size',
    );
  }
  const { height, width } = sides;
  const tables = [0, 1, 2].map((channel) => table(given, channel));
  return {
    height,
    width,
    settings: JSON.stringify(given),
    fitted(image) {
      const [across, down] = wanted && resizes ? sizeFor(image, wanted) : [image.width, image.height];
      const same = filter ? resized(image, across, down, filter) : image;
      return centred(same, width, height);
    },
    write(pixels, into, start, place = (row, column) => row * width + column) {
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const [from, to] = [3 * place(row, column), start + row * width + column];
          tables.forEach(
            (values, channel) =>
              (into[to + channel * height * width] = values[pixels[from + channel] as number] as number),
          );
        }
      }
    },
  };
}

type Settings = v.InferOutput<typeof schema>;

/** The number that the network reads for each byte of a channel, rounded as NumPy does. */
function table(
  { do_rescale: rescales, rescale_factor: factor, do_normalize: normalizes, ...given }: Settings,
  channel: number,
): Float32Array {
  const [mean, std] = [given.image_mean, given.image_std].map((all) => Math.fround(all[channel] as number)) as [
    number,
    number,
  ];
  return Float32Array.from({ length: 256 }, (_, byte) => {
    const scaled = Math.fround(rescales ? byte * factor : byte);
    return normalizes ? Math.fround(scaled - mean) / std : scaled;
  });
}

/** The width and height to resize an image to. */
function sizeFor(
  { width, height }: DecodedImage,
  size: { shortest_edge: number } | { height: number; width: number },
): [number, number] {
  if ('height' in size) return [size.width, size.height];
  const { shortest_edge: edge } = size;
  const longer = (long: number, short: number): number => Math.trunc((edge * long) / short);
  return width <= height ? [edge, longer(height, width)] : [longer(width, height), edge];
}

/** Cuts the middle out of an image; a smaller one gets a black border. */
function centred(image: DecodedImage, width: number, height: number): Uint8Array {
  if (image.width === width && image.height === height) return image.data;
  const offset = (from: number, to: number): number =>
    from >= to ? Math.floor((from - to) / 2) : -Math.ceil((to - from) / 2);
  const [top, left] = [offset(image.height, height), offset(image.width, width)];
  const made = new Uint8Array(3 * width * height);
  for (let row = Math.max(0, -top); row < Math.min(height, image.height - top); row++) {
    const [first, end] = [Math.max(0, -left), Math.min(width, image.width - left)];
    const start = 3 * ((row + top) * image.width + first + left);
    made.set(image.data.subarray(start, start + 3 * (end - first)), 3 * (row * width + first));
  }
  return made;
}
