import { expect, it } from 'vitest';
import { linearSite } from '../contracts/site.js';
import { hostTensor, type HostTensors } from '../tensors.js';
import { readTensors, type ModuleTensors } from './method-file.js';

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
