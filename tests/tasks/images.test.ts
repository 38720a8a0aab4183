import { readFileSync } from 'node:fs';
import { memoryStorage, onWarning } from '@peftjs/core';
import { DataError, floats } from '@peftjs/core/method';
import { readSafetensors, toFloat32 } from '@peftjs/safetensors';
import { createDataSet, evaluationData, readTable, trainingData } from '@peftjs/tasks';
import { decodeImage, encodeImages, imageProcessor, imageRows, type Augmentation } from '@peftjs/tasks/images';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

/** Written by tools/golden/images.py. */
const file = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`fixtures/images/${name}`, import.meta.url)));
const { configs } = JSON.parse(new TextDecoder().decode(file('processors.json'))) as {
  configs: Record<string, object>;
};
const expected = readSafetensors(file('expected.safetensors'));
const IMAGES = ['rgb.png', 'tall.png', 'grey.png', 'alpha.png', 'palette.png', 'photo.jpg'];

const processor = imageProcessor(configs['vit']);
const storage = memoryStorage(new Map(IMAGES.map((name) => [name, file(name)])));
const rows = IMAGES.map((text, label) => ({ text, label: label % 2 }));
const dataSet = createDataSet({ name: 'pictures', kind: 'classification', classes: ['a', 'b'], rows });
const encoded = async (own = processor, augmentation?: Augmentation) =>
  encodeImages(await dataSet, { processor: own, storage, augmentation });

describe.each(Object.keys(configs))("the processor of transformers with the settings '%s'", (kind) => {
  it('makes the same numbers of PNG files, and nearly the same of JPEG files', async () => {
    const data = await encoded(imageProcessor(configs[kind]));
    for (const [index, name] of IMAGES.entries()) {
      const pixels = [
        ...floats(data.inputs?.([data.rows[index] ?? expect.fail(name)])['pixelValues'] ?? expect.fail()),
      ];
      const theirs = toFloat32(expected.get(`${kind}/${name}`) ?? expect.fail(name));
      const farthest = pixels.reduce((most, value, at) => Math.max(most, Math.abs(value - (theirs[at] as number))), 0);
      expect(pixels).toHaveLength(theirs.length);
      // Decoders of JPEG round differently: a byte may differ by one or two before it is divided by 255 and by std.
      expect(farthest, name).toBeLessThanOrEqual(name.endsWith('jpg') ? 2 / 255 / 0.22 : 0);
    }
  });
});

it.each(['vit', 'deit', 'clip', 'siglip'])(
  "settings that a file leaves out are those of the processor: '%s'",
  (kind) => {
    const all = configs[kind] as Record<string, unknown>;
    const sizes = ['image_processor_type', 'size', 'crop_size'].map((name) => [name, all[name]]);
    const { settings } = imageProcessor(Object.fromEntries(sizes));
    expect(JSON.parse(settings)).toMatchObject(JSON.parse(imageProcessor(all).settings) as object);
  },
);

it('a step that a file sets to null is left out', () => {
  const written = imageProcessor({ size: 1, do_rescale: null, do_normalize: null });
  const pixel = new Float32Array(3);
  written.write(Uint8Array.of(7, 8, 9), pixel, 0);
  expect([...pixel]).toEqual([7, 8, 9]);
});

it('a JPEG file of inks has the colours of Pillow, turned as its EXIF says', async () => {
  // Written and read by Pillow 13.0.0: blocks of 8 x 8 of (0, 222, 255, 39), (255, 128, 0, 0) and (90, 30, 60, 200) in
  // a row, with the orientation 8, by save(quality=90, optimize=True); ImageOps.exif_transpose, then convert('RGB').
  const blocks = [
    [36, 49, 42],
    [0, 127, 255],
    [216, 28, 0],
  ];
  const { data, ...size } = await decodeImage(file('cmyk.jpg'), 'cmyk.jpg');
  expect(size).toEqual({ width: 8, height: 24 });
  expect([...data]).toEqual(blocks.flatMap((colour) => Array.from({ length: 64 }, () => colour).flat()));
});

describe('images that are changed at random', () => {
  const batchesOf = async (seed: number, batchSize: number, augmentation?: Augmentation) => {
    const data = trainingData(await encoded(processor, augmentation), { batchSize, seed });
    const own = data
      .epoch(1)
      .flatMap(({ rows, inputs }) =>
        rows.map(
          (row, place) =>
            [
              row,
              [...floats(inputs['pixelValues'] ?? expect.fail()).subarray(place * 432, (place + 1) * 432)],
            ] as const,
        ),
      );
    return own.sort(([a], [b]) => a - b).map(([, pixels]) => pixels);
  };
  const augmentation = { flip: true, crop: 3 };

  it('are the same for the same seed, epoch and row, whatever batch they are in', async () => {
    const [one, other, third] = await Promise.all([
      batchesOf(1, 2, augmentation),
      batchesOf(1, 3, augmentation),
      batchesOf(2, 2, augmentation),
    ]);
    expect(other).toEqual(one);
    expect(third).not.toEqual(one);
  });

  it('are mirrored, every other one', async () => {
    const [plain, flipped] = await Promise.all([batchesOf(1, 2), batchesOf(1, 2, { flip: true })]);
    const mirrored = plain.map((pixels) => pixels.map((_, at) => pixels[at - (at % 12) + 11 - (at % 12)]));
    const kept = flipped.map((pixels, row) => (pixels.join() === plain[row]?.join() ? 'kept' : pixels.join() === mirrored[row]?.join() ? 'mirrored' : 'other')); // prettier-ignore
    expect(new Set(kept)).toEqual(new Set(['kept', 'mirrored']));
  });

  it('are shifted, with the edge repeated', async () => {
    const [plain, shifted] = await Promise.all([batchesOf(1, 2), batchesOf(1, 2, { crop: 2 })]);
    const at = (pixels: readonly number[], row: number, column: number) =>
      pixels[Math.min(11, Math.max(0, row)) * 12 + Math.min(11, Math.max(0, column))];
    const moves = [-2, -1, 0, 1, 2].flatMap((down) => [-2, -1, 0, 1, 2].map((across) => [down, across] as const));
    for (const [image, pixels] of shifted.entries()) {
      const move = moves.find(([down, across]) =>
        Array.from({ length: 144 }).every(
          (_, place) => pixels[place] === at(plain[image] ?? [], Math.floor(place / 12) + down, (place % 12) + across),
        ),
      );
      expect(move, `image ${image}`).toBeDefined();
    }
  });

  it('are not changed in an evaluation', async () => {
    const batches = evaluationData(await encoded(processor, augmentation), { batchSize: 6 }).batches;
    expect([...floats(batches[0]?.inputs['pixelValues'] ?? expect.fail())]).toEqual((await batchesOf(1, 6)).flat());
  });
});

describe('what is refused, in one line with the name of the file', () => {
  const png = file('rgb.png');
  const changed = (at: number, ...bytes: number[]): Uint8Array => {
    const copy = png.slice();
    copy.set(bytes, at);
    return copy;
  };
  it.each([
    ['a file that ends too early', png.subarray(0, 20), /x.png: expected a PNG or JPEG image, got a file that ends/],
    ['an image that ends too early', png.subarray(0, 300), /x.png: the image cannot be decoded: .*/],
    ['broken data', changed(60, 1, 2, 3, 4, 5), /x.png: the image cannot be decoded: .*/],
    [
      'another format',
      new TextEncoder().encode('GIF89a, and some more bytes'),
      /x.png: expected a PNG or JPEG image, got a/,
    ],
    [
      'billions of pixels',
      changed(16, 0, 0, 255, 255, 0, 0, 255, 255),
      /x.png: expected 1 to 67108864 pixels, got 65535 x 65535/,
    ],
  ])('%s', async (_, bytes, message) => {
    const own = memoryStorage(new Map([['x.png', bytes]]));
    const set = await createDataSet({
      name: 'x',
      kind: 'classification',
      classes: ['a', 'b'],
      rows: [{ text: 'x.png', label: 0 }],
    });
    const error: unknown = await encodeImages(set, { processor, storage: own }).catch((cause: unknown) => cause);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).not.toContain('\n');
  });

  it.each([
    [{ ...configs['vit'], do_pad: true }, /do_pad/],
    [{ ...configs['vit'], resample: 0 }, /resample 0 is not known/],
    [{ ...configs['vit'], size: { longest_edge: 7 } }, /p.json: size must be/],
    [{ ...configs['clip'], do_center_crop: false }, /so that all images have one size/],
    [null, /p.json: the content must be/],
  ])('the settings %#', (settings, message) => {
    expect(() => imageProcessor(settings, 'p.json')).toThrow(message);
  });
});

it('files with damaged bytes are decoded, or refused in one line', async () => {
  const originals = ['palette.png', 'photo.jpg'].map(file);
  await fc.assert(
    fc.asyncProperty(
      fc.nat(1),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      fc.option(fc.nat()),
      async (which, edits, end) => {
        const whole = (originals[which] as Uint8Array).slice();
        for (const [at, byte] of edits) whole[at % whole.length] = byte;
        const bytes = end === null ? whole : whole.subarray(0, end % whole.length);
        const found = await decodeImage(bytes, 'x.png').catch((error: unknown) => error);
        if (found instanceof DataError) expect(found.message).toMatch(/^x\.png: [^\n]+$/);
        else expect(found).toMatchObject({ width: expect.any(Number) as number, height: expect.any(Number) as number });
      },
    ),
    { numRuns: 1500 },
  );
});

describe('where images come from', () => {
  it('a folder for each class', () => {
    const { classes, rows: found } = imageRows(
      ['b/2.JPG', 'a', 'a/1.png', 'a/notes.txt', 'b', 'a/.ipynb_checkpoints/1.png', '.thumbnails/1.png', 'a/._2.jpg'],
      'pets',
    );
    expect(classes).toEqual(['a', 'b']);
    expect(found).toEqual([
      { text: 'a/1.png', label: 0 },
      { text: 'b/2.JPG', label: 1 },
    ]);
  });

  it('relative paths, which are not hidden', () => {
    expect(imageRows(['./a/1.png', '../b/2.png'], 'pets').classes).toEqual(['a', 'b']);
  });

  it('says which images are of another format', () => {
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    imageRows(['a/1.png', 'a/3.webp', 'b/2.gif', 'b/2.png'], 'pets');
    restore();
    expect(warnings).toEqual(['pets: left out 2 images that are not PNG or JPEG, such as a/3.webp']);
  });

  it.each([
    [['1.png', 'a/2.png'], undefined, /pets\/1.png: expected images in a folder for each class/],
    [['a/1.png'], undefined, /at least two folders, one for each class, got a/],
    [['a/1.webp', 'b'], ['a', 'b'], /pets: expected PNG or JPEG images to evaluate on, got none/],
    [['c/1.png'], ['a', 'b'], /'c' is not a class of the training images: a, b/],
  ])('not %j', (paths, like, message) => {
    expect(() => imageRows(paths, 'pets', like)).toThrow(message);
  });

  it('a table with their paths, in a folder', async () => {
    const table = new TextEncoder().encode('image,label\nrgb.png,up\ntall.png,down\n');
    const set = await readTable(table, { path: 'pets/train.csv', textColumn: 'image', kind: 'classification' });
    const own = memoryStorage(new Map(IMAGES.map((name) => [`pets/${name}`, file(name)])));
    const data = await encodeImages(set, { processor, storage: own, folder: 'pets' });
    expect(data.rows.map(({ label }) => data.classes[label])).toEqual(['up', 'down']);
  });
});
