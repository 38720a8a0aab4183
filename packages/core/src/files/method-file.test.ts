import { expect, it } from 'vitest';
import type { TargetConfig } from '../contracts/method.js';
import { linearSite } from '../contracts/site.js';
import { hostTensor, type HostTensors } from '../tensors.js';
import { fileFormat, readTensors, type ModuleTensors } from './method-file.js';

const known: ModuleTensors = { a: ['.a', 'r', 'in'], b: ['.b', 'out', 'r'], e: ['.e', 'r', '1'] };
const zeros = (...shape: number[]) => hostTensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);
const tensors = {
  'm.a': hostTensor(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]),
  'm.b': zeros(4, 2),
  'm.e': zeros(2, 1),
};

it("reads a module's tensors, matrices transposed, with the sizes of their axes", () => {
  const { targetModules, values, sizes } = readTensors({ config: {}, tensors }, known);
  expect(targetModules).toEqual(['m']);
  expect(values['m.a']).toEqual(hostTensor(Float32Array.of(1, 4, 2, 5, 3, 6), [3, 2]));
  expect(sizes).toEqual({ m: { r: 2, in: 3, out: 4, '1': 1 } });
});

it.each<[string, HostTensors]>([
  ['m.b', { 'm.b': zeros(4, 3) }], // r is 2
  ['m.e', { 'm.e': zeros(2, 2) }], // the second axis is 1
  ['m.b', { 'm.b': zeros(4) }],
  ['m.c', { 'm.c': zeros(4) }],
])('names a tensor that does not fit: %s', (path, change) => {
  const read = () => readTensors({ config: {}, tensors: { ...tensors, ...change } }, known);
  expect(read).toThrow(expect.objectContaining({ path }));
});

it('names a tensor that is missing, unless it is optional, and a module of another size', () => {
  const { 'm.e': _, ...rest } = tensors;
  expect(() => readTensors({ config: {}, tensors: rest }, known)).toThrow(expect.objectContaining({ path: 'm.e' }));
  expect(Object.keys(readTensors({ config: {}, tensors: rest }, known, (path, name) => name === 'e').values)).toEqual([
    'm.a',
    'm.b',
  ]);
  const sites = [linearSite('m', 3, 5)];
  expect(() => readTensors({ config: {}, tensors, sites }, known)).toThrow(expect.objectContaining({ path: 'm' }));
});

interface Ranked extends TargetConfig {
  readonly r: number;
  readonly alpha: number;
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
}

it.each(['r', 'alpha', 'rankPattern', 'alphaPattern'] as const)('ranks need the option %s of a method', (missing) => {
  const { [missing]: _, ...config } = { r: 2, alpha: 2, rankPattern: {}, alphaPattern: {}, targetModules: ['m'] };
  const { toFile } = fileFormat<Ranked>({ peftType: 'X', tensors: known, ranks: 'tensors' });
  const adapter = { config: config as unknown as Ranked, layers: {}, values: {}, sites: [] };
  expect(() => toFile(adapter as unknown as Parameters<typeof toFile>[0], { pruned: false })).toThrow(
    expect.objectContaining({
      code: 'PEFT_CONFIG',
      message: expect.stringContaining(`needs the option '${missing}'`) as string,
    }),
  );
});

it('ranks of a configuration without them do not type-check', () => {
  // @ts-expect-error: `ranks` is for a configuration with the options of ranks
  fileFormat<TargetConfig>({ peftType: 'X', tensors: known, ranks: 'tensors' });
  fileFormat<TargetConfig>({ peftType: 'X', tensors: known });
  expect(fileFormat<Ranked>({ peftType: 'X', tensors: known, ranks: 'fields' }).peftTypes).toEqual(['X']);
});
