import { describe, expect, test } from 'vitest';
import { bytesSource, openSafetensors, readSafetensors, SafetensorsError, type ByteSource } from '@peftjs/safetensors';
import { fileOf, golden } from './files.js';

/** Returns the header entry of a tensor 'a' of one float. */
function entry({ name = 'a', dtype = '"F32"', shape = '[1]', offsets = '[0,4]', more = '' } = {}): string {
  return `${JSON.stringify(name)}:{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}${more}}`;
}

const four = new Uint8Array(4);
const eight = new Uint8Array(8);
const header = (...entries: string[]) => `{${entries.join(',')}}`;

interface Case {
  readonly file: Uint8Array;
  readonly says: RegExp;
  /** The tensor or key in the error. */
  readonly names?: string;
}

/** A file with the tensor 'a' alone, which the error names. */
const ofA = (a: Parameters<typeof entry>[0], says: RegExp, data = four): Case => ({
  file: fileOf(header(entry(a)), data),
  says,
  names: 'a',
});

const cases: Record<string, Case> = {
  'no bytes at all': { file: new Uint8Array(), says: /0 bytes.*at least 8/ },
  'half a prefix': { file: new Uint8Array(5), says: /5 bytes.*at least 8/ },
  'a header longer than the file': { file: fileOf('{}', four, 100n), says: /header of 100 bytes.*14 bytes.*truncated/ },
  'a header above the limit': { file: fileOf('{}', four, 100_000_001n), says: /100000001 bytes, at most 100000000/ },
  'a pointer of Git LFS': {
    file: new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'),
    says: /a pointer of Git LFS, not the file: run git lfs pull/,
  },
  'a header of 2^64 - 1 bytes': { file: fileOf('{}', four, 2n ** 64n - 1n), says: /18446744073709551615 bytes/ },
  'an empty header': { file: fileOf(''), says: /must start with '\{'/ },
  'a header that is not an object': { file: fileOf('[]'), says: /must start with '\{'/ },
  'white space before the header': { file: fileOf(' {}'), says: /must start with '\{'/ },
  'a byte order mark': { file: fileOf('\ufeff{}'), says: /must start with '\{'/ },
  'a pickle': { file: fileOf(Uint8Array.of(0x80, 2, 0x63), four), says: /must start with '\{'/ },
  'invalid UTF-8': { file: fileOf(Uint8Array.of(0x7b, 0x22, 0xc3, 0x28, 0x22)), says: /not valid UTF-8/ },
  'text after the header': { file: fileOf('{} x'), says: /not valid JSON: .*position 3/ },
  'zeros after the header': { file: fileOf('{}\0\0'), says: /not valid JSON: .*position 2/ },
  'an unfinished header': { file: fileOf('{"a":{"dtype":"F3'), says: /not valid JSON: 'Unterminated/ },
  'a trailing comma': { file: fileOf(`{${entry()},}`, four), says: /not valid JSON/ },
  'single quotes': { file: fileOf("{'a':1}"), says: /not valid JSON/ },
  'a raw control character in a name': { file: fileOf('{"a\n":1}'), says: /not valid JSON/ },
  'half a surrogate pair in a name': { file: fileOf('{"\\ud800":1}'), says: /key '.*' must be a string of valid/ },
  'a duplicate name': { file: fileOf(header(entry(), entry()), four), says: /key 'a' appears twice/, names: 'a' },
  'a duplicate name, escaped once': {
    file: fileOf(`{${entry()},${entry().replace('"a"', '"\\u0061"')}}`, four),
    says: /key 'a' appears twice/,
    names: 'a',
  },
  'a duplicate field': {
    file: fileOf(header(entry({ more: ',"dtype":"F32"' })), four),
    says: /key 'dtype' appears twice/,
    names: 'dtype',
  },
  'a duplicate metadata key': { file: fileOf('{"__metadata__":{"k":"1","k":"2"}}'), says: /key 'k' appears twice/ },
  'duplicate metadata': { file: fileOf('{"__metadata__":{},"__metadata__":{}}'), says: /'__metadata__' appears twice/ },
  'metadata that is a number': {
    file: fileOf('{"__metadata__":{"k":1}}'),
    says: /'__metadata__' must be an object of strings/,
  },
  'metadata that is a tensor': {
    file: fileOf(header(entry({ name: '__metadata__' })), four),
    says: /'__metadata__' must be an object of strings/,
    names: '__metadata__',
  },
  'too deep nesting': ofA({ more: `,"x":${'['.repeat(1000)}` }, /nested more than 32 deep/),
  'too many objects and arrays': ofA(
    { more: `,"x":[${'[],'.repeat(2 ** 20)}[]]` },
    /more than 1048576 objects and arrays/,
  ),
  'too many keys': {
    file: fileOf(`{${Array.from({ length: 2 ** 18 + 1 }, (_, key) => `"${key}":0`).join()}}`),
    says: /more than 262144 keys in one object/,
  },
  'a tensor that is not an object': { file: fileOf('{"a":[1]}', four), says: /'a' needs a dtype/, names: 'a' },
  'a missing field': {
    file: fileOf('{"a":{"dtype":"F32","shape":[1]}}', four),
    says: /'a' needs a dtype, a shape/,
    names: 'a',
  },
  'one offset': ofA({ offsets: '[0]' }, /of two such integers/),
  'three offsets': ofA({ offsets: '[0,4,8]' }, /of two such integers/),
  'an unknown dtype': ofA({ dtype: '"F4"' }, /'a' has dtype 'F4'; known/),
  "a dtype named like a member of Object's prototype": ofA({ dtype: '"constructor"' }, /'constructor'/),
  'a dtype that is a number': ofA({ dtype: '1' }, /'a' needs a dtype/),
  'a negative size': ofA({ shape: '[-1]' }, /non-negative integer/),
  'a fractional size': ofA({ shape: '[1.5]' }, /non-negative integer/),
  'a size that is NaN': { file: fileOf(header(entry({ shape: '[NaN]' })), four), says: /not valid JSON/ },
  'a size that is null': ofA({ shape: '[null]' }, /integer/),
  'a size of 2^31': ofA({ shape: '[0,2147483648]' }, /axis 1.*2147483648/),
  'a size beyond 2^53': ofA({ shape: '[18446744073709551616]' }, /non-negative integer/),
  'sizes whose product overflows': ofA(
    { shape: '[2147483647,2147483647,2]', offsets: '[0,8]' },
    /larger than any file/,
    eight,
  ),
  'sizes whose product overflows before a zero': ofA(
    { shape: '[2147483647,2147483647,0]', offsets: '[0,0]' },
    /larger than any file/,
    new Uint8Array(),
  ),
  'too many axes': ofA({ shape: `[${Array<number>(65).fill(1).join()}]` }, /has 65 axes, at most 64/),
  'a size that does not match the shape': ofA(
    { shape: '[2]' },
    /F32 of shape \[2\] takes 8 bytes, data_offsets \[0, 4\] give 4/,
  ),
  'offsets that run backwards': ofA({ shape: '[0]', offsets: '[4,0]' }, /takes 0 bytes.*give -4/),
  'a gap before the first tensor': ofA({ offsets: '[4,8]' }, /'a' leaves a gap.*byte 4 of the data, expected 0/, eight),
  'a gap between tensors': {
    file: fileOf(header(entry(), entry({ name: 'b', offsets: '[8,12]' })), new Uint8Array(12)),
    says: /'b' leaves a gap.*byte 8 of the data, expected 4/,
    names: 'b',
  },
  'tensors that overlap': {
    file: fileOf(header(entry({ shape: '[2]', offsets: '[0,8]' }), entry({ name: 'b', offsets: '[4,8]' })), eight),
    says: /'b' overlaps the tensor before it/,
    names: 'b',
  },
  'two tensors over the same bytes': {
    file: fileOf(header(entry(), entry({ name: 'b' })), four),
    says: /'b' overlaps the tensor before it/,
    names: 'b',
  },
  'bytes that no tensor covers': { file: fileOf(header(entry()), eight), says: /fill 4 bytes, the file has 8/ },
  'bytes without any tensor': { file: fileOf('{}', four), says: /fill 0 bytes, the file has 4/ },
  'truncated data': ofA(
    { shape: '[2]', offsets: '[0,8]' },
    /'a' ends at byte 8 of the data, the file has 4: it is truncated/,
  ),
};

/** A source that records the longest read. */
function watched(bytes: Uint8Array): ByteSource & { longest: number } {
  const inner = bytesSource(bytes);
  return {
    size: inner.size,
    longest: 0,
    read(offset, length) {
      this.longest = Math.max(this.longest, length);
      return inner.read(offset, length);
    },
  };
}

describe.each(Object.entries(cases))('%s', (_, { file, says, names }) => {
  test('is rejected with one clear error', () => {
    const attempt = () => readSafetensors(file);
    expect(attempt).toThrow(SafetensorsError);
    expect(attempt).toThrow(says);
    expect(attempt).toThrow(expect.objectContaining({ code: 'PEFT_SAFETENSORS', ...(names && { path: names }) }));
  });

  test('is rejected when opened lazily, without reading beyond the end', async () => {
    const source = watched(file);
    await expect(openSafetensors(source)).rejects.toThrow(SafetensorsError);
    expect(source.longest).toBeLessThanOrEqual(file.length);
  });
});

test('every truncation of a real file is rejected', () => {
  const whole = golden('every-dtype.safetensors');
  for (let length = 0; length < whole.length; length++) {
    expect(() => readSafetensors(whole.subarray(0, length))).toThrow(SafetensorsError);
  }
});

test('names of the object prototype are ordinary names', async () => {
  const file = fileOf(
    `{"__metadata__":{"__proto__":"m"},${entry({ name: '__proto__' })},${entry({ name: 'toString', offsets: '[4,8]' })}}`,
    eight,
  );
  expect([...readSafetensors(file).keys()]).toEqual(['__proto__', 'toString']);
  const opened = await openSafetensors(bytesSource(file));
  expect(opened.metadata['__proto__']).toBe('m');
  expect(opened.metadata['constructor']).toBeUndefined();
  expect(() => opened.spec('hasOwnProperty')).toThrow(/no tensor 'hasOwnProperty' among 2/);
  expect({}).not.toHaveProperty('m');
});

test('accepts what the reference implementation accepts', () => {
  const unknownField = fileOf(`{${entry({ more: ',"note":[1.5e3,{"k":null},true,"x"]' })}} \n`, four);
  expect(readSafetensors(unknownField).get('a')?.shape).toEqual([1]);
  const byOffset = fileOf(header(entry({ name: 'b', offsets: '[4,8]' }), entry()), eight);
  expect([...readSafetensors(byOffset).keys()]).toEqual(['a', 'b']);
  const empties = fileOf(header(entry(), entry({ name: 'b', shape: '[0]', offsets: '[0,0]' })), four);
  expect([...readSafetensors(empties).keys()]).toEqual(['b', 'a']);
});

test('a hostile name is shown shortened and without control characters', () => {
  const name = `\u001b[31m\u202e\u009b${'x'.repeat(10_000)}`;
  const file = fileOf(header(entry({ name, dtype: '"F4"' })), four);
  expect(() => readSafetensors(file)).toThrow(/^tensor '\\u\{1b\}\[31m\\u\{202e\}\\u\{9b\}x{70,80}…' has dtype 'F4'/);
});
