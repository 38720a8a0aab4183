import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bytesSource,
  openSafetensors,
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
  type DType,
  type StoredTensor,
} from '@peftjs/safetensors';
import { fileOf, golden, hex } from './files.js';

const WIDTHS: Record<DType, number> = {
  U64: 8,
  I64: 8,
  F64: 8,
  F32: 4,
  U32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  U16: 2,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** A tensor with arbitrary bits, read from a file with only this tensor. */
const tensor: fc.Arbitrary<StoredTensor> = fc
  .record({
    dtype: fc.constantFrom(...(Object.keys(WIDTHS) as DType[])),
    shape: fc.array(fc.nat({ max: 4 }), { maxLength: 4 }),
  })
  .chain(({ dtype, shape }) => {
    const length = shape.reduce((product, size) => product * size, WIDTHS[dtype]);
    return fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => {
      const place = { dtype, shape, data_offsets: [0, length] };
      const read = readSafetensors(fileOf(JSON.stringify({ only: place }), bytes)).get('only');
      if (!read) throw new SafetensorsError('the tensor is missing', 'only');
      return read;
    });
  });

const text = fc.string({ unit: 'binary', maxLength: 12 });
const names = fc.oneof(text, fc.nat().map(String), fc.constantFrom('__proto__', 'constructor', 'a.weight'));
const tensors = fc
  .uniqueArray(fc.tuple(names, tensor), { selector: ([name]) => name, maxLength: 8 })
  .map((entries) => new Map(entries.filter(([name]) => name !== '__metadata__')));
const metadata = fc.dictionary(text, text, { maxKeys: 4 });

/** The parts of a tensor that must be preserved, as bits rather than numbers because of NaN payloads. */
const bits = (tensor?: StoredTensor) =>
  tensor && { dtype: tensor.dtype, shape: tensor.shape, bits: hex(tensor.data), array: tensor.data.constructor.name };

describe('round trip', () => {
  test('preserves every set of tensors bit for bit', async () => {
    await fc.assert(
      fc.asyncProperty(tensors, metadata, async (before, noted) => {
        const bytes = writeSafetensors(before, noted);
        const after = readSafetensors(bytes);
        expect(new Set(after.keys())).toEqual(new Set(before.keys()));
        for (const [name, tensor] of before) {
          expect(bits(after.get(name))).toEqual(bits(tensor));
        }
        const file = await openSafetensors(bytesSource(bytes));
        expect(Object.entries(file.metadata).sort()).toEqual(Object.entries(noted).sort());
        for (const name of file.names) expect(bits(await file.read(name))).toEqual(bits(before.get(name)));
      }),
      { numRuns: 500 },
    );
  });

  test('equal content gives equal bytes, in any order', () => {
    fc.assert(
      fc.property(tensors, metadata, (before, noted) => {
        const backwards = writeSafetensors(new Map([...before].reverse()), new Map(Object.entries(noted).reverse()));
        expect(hex(backwards)).toBe(hex(writeSafetensors(before, noted)));
      }),
      { numRuns: 300 },
    );
  });

  test('data starts at a multiple of 8 and every tensor is aligned', () => {
    fc.assert(
      fc.property(tensors, (before) => {
        const bytes = writeSafetensors(before);
        expect(new DataView(bytes.buffer).getBigUint64(0, true) % 8n).toBe(0n);
        for (const { data } of readSafetensors(bytes).values()) expect(data.buffer).toBe(bytes.buffer);
      }),
      { numRuns: 300 },
    );
  });
});

/** Pieces that break headers: extreme numbers, keys with a special meaning, stray JSON. */
const intruders = fc.constantFrom(
  ...[
    '-1',
    '0',
    '1.5',
    '1e999',
    'NaN',
    '9007199254740992',
    '18446744073709551615',
    '2147483647',
    'null',
    '""',
    '[',
    '{',
  ],
  ...[
    '"__proto__"',
    '"__metadata__"',
    '"F32"',
    '"shape"',
    '"data_offsets"',
    ']',
    '}',
    ',',
    ':',
    '\\',
    '"',
    '\ud83d\ude00',
  ],
);
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+|[[\]{},:]/g;

type Mutation = (header: string) => string;

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  // Replaces a token by a piece.
  fc.tuple(fc.nat(), intruders).map(([at, piece]): Mutation => (header) => {
    const count = header.match(TOKENS)?.length ?? 0;
    let index = 0;
    return header.replace(TOKENS, (token) => (index++ === at % Math.max(count, 1) ? piece : token));
  }),
  // Replaces a token by another one of the same header.
  fc.tuple(fc.nat(), fc.nat()).map(([to, from]): Mutation => (header) => {
    const found = header.match(TOKENS) ?? [''];
    let index = 0;
    return header.replace(TOKENS, (token) =>
      index++ === to % found.length ? (found[from % found.length] ?? '') : token,
    );
  }),
  // Inserts a piece.
  fc.tuple(fc.nat(), intruders).map(([at, piece]): Mutation => (header) => {
    const place = at % (header.length + 1);
    return header.slice(0, place) + piece + header.slice(place);
  }),
  // Removes or repeats a range.
  fc.tuple(fc.nat(), fc.nat({ max: 40 }), fc.constantFrom(0, 2)).map(([at, length, times]): Mutation => (header) => {
    const place = at % (header.length + 1);
    return header.slice(0, place) + header.slice(place, place + length).repeat(times) + header.slice(place + length);
  }),
);

const originals = {
  adapter: golden('adapter.safetensors'),
  everyDtype: golden('every-dtype.safetensors'),
  unaligned: golden('unaligned.safetensors'),
  nothing: golden('nothing.safetensors'),
};

const seldom = <T>(value: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 7, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });

/** A file with a damaged header, bytes, announced length or data. */
const damaged = fc
  .record({
    name: fc.constantFrom('adapter', 'everyDtype', 'unaligned', 'nothing'),
    mutations: fc.array(mutation, { maxLength: 3 }),
    flips: fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 2 }),
    announced: seldom(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
    cut: seldom(fc.nat({ max: 64 })),
  })
  .map(({ name, mutations, flips, announced, cut }) => {
    const bytes = originals[name];
    const length = Number(bytes.readBigUInt64LE(0));
    const header = mutations.reduce((text, mutate) => mutate(text), bytes.toString('utf8', 8, 8 + length));
    const file = fileOf(header, bytes.subarray(8 + length), announced);
    for (const [at, value] of flips) file[at % file.length] = value;
    return file.subarray(0, Math.max(0, file.length - (cut ?? 0)));
  });

describe('10,000 damaged headers', () => {
  test('each is read within its bounds or rejected, with the same result for both ways of reading', async () => {
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(damaged, async (file) => {
        const whole = outcome(() => readSafetensors(file));
        const lazy = await readLazily(file).then((value) => value, refused);
        expect(lazy).toEqual(whole);
        if (whole === 'refused') return;
        accepted++;
        const total = [...whole.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
        expect(total).toBeLessThan(file.length);
        for (const { shape, data } of whole.values()) {
          expect(data.length).toBe(shape.reduce((product, size) => product * size, 1));
        }
      }),
      { numRuns: 10_000 },
    );
    // Both outcomes occur often enough to be tested.
    expect(accepted).toBeGreaterThan(100);
    expect(accepted).toBeLessThan(9_000);
  });
});

function outcome(read: () => Map<string, StoredTensor>): Map<string, StoredTensor> | 'refused' {
  try {
    return read();
  } catch (error) {
    return refused(error);
  }
}

/** Fails the test for any error other than our own. */
function refused(error: unknown): 'refused' {
  if (error instanceof SafetensorsError) return 'refused';
  throw error;
}

async function readLazily(bytes: Uint8Array): Promise<Map<string, StoredTensor>> {
  const file = await openSafetensors({
    size: bytes.length,
    read(offset, length) {
      expect(offset + length).toBeLessThanOrEqual(bytes.length);
      return Promise.resolve(bytes.slice(offset, offset + length));
    },
  });
  const tensors = new Map<string, StoredTensor>();
  for (const name of file.names) tensors.set(name, await file.read(name));
  return tensors;
}
