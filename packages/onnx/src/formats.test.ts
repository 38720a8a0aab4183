import { readFileSync } from 'node:fs';
import type { FileFormat } from '@peftjs/models/architectures';
import { expect, it } from 'vitest';
import { DEFAULTS, graphFormats } from './graph-formats.js';

it.each(['formats.ts', 'graph-formats.ts'])('naming the formats loads nothing of the reader: %s', (file) => {
  const source = readFileSync(new URL(file, import.meta.url), 'utf8');
  const loaded = Array.from(source.matchAll(/^import (?!type).* from '(.*)';$/gm), ([, name]) => name);
  expect(loaded).toEqual(file === 'formats.ts' ? ['./graph-formats.js'] : []);
});

it.each([
  ['web/onnx/model.onnx', 'web', 'onnx/model.onnx'],
  [String.raw`C:\web\onnx\model.onnx`, String.raw`C:\web`, 'onnx/model.onnx'],
  [String.raw`web\model.onnx`, 'web', 'model.onnx'],
  ['model.onnx', '', 'model.onnx'],
])('the other files of %s are in its folder', (path, folder, marker) => {
  const [file] = graphFormats({ options: DEFAULTS }) as [FileFormat];
  expect(file.locate(path)).toMatchObject({ folder, format: { marker } });
});
