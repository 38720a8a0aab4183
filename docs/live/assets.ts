/** The build step `lesson`: writes the files that the live page loads into public/lesson, all from npm packages. */
import { copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { embeddedTasks, sliceRows, type DataSet, type LabelKind, type Task } from '@peftjs/tasks';
import { LESSON, MODEL, type FileSizes } from './lesson-files.js';
import type { Sentences } from './messages.js';

/** The number of sentences that the page starts with, and the seed that samples them. */
const ROWS = { train: 600, heldOut: 300, seed: 1 };

/** ONNX Runtime's files for WebAssembly and for WebGPU. */
const RUNTIME_FILES = ['ort-wasm-simd-threaded', 'ort-wasm-simd-threaded.asyncify'].flatMap((name) => [
  `${name}.mjs`,
  `${name}.wasm`,
]);

const { resolve } = createRequire(import.meta.url);

/** Empties a folder and writes the sentences, the model and ONNX Runtime's WebAssembly files into it. */
export async function writeLesson(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, LESSON.sentences), JSON.stringify(await sentences()));
  await copyRuntime(join(folder, LESSON.runtime));
  await writeFile(join(folder, LESSON.sizes), JSON.stringify(await copyModel(join(folder, LESSON.models))));
}

async function sentences(): Promise<Sentences> {
  const task = (await embeddedTasks
    .get('uci-sentiment')
    ?.load((name, path) => readFile(resolve(`${name}/${path}`)))) as Task<LabelKind>;
  return {
    train: asTable(await sliceRows(task.train, ROWS.train, ROWS.seed)),
    heldOut: asTable(await sliceRows(task.dev, ROWS.heldOut, ROWS.seed)),
  };
}

/** Returns TSV with the columns `label` and `text`. */
function asTable({ rows, classes }: DataSet<LabelKind>): string {
  const lines = rows.map(({ text, label }) => `${classes[label] ?? ''}\t${text.replaceAll(/\s+/g, ' ')}`);
  return ['label\ttext', ...lines, ''].join('\n');
}

async function copyModel(into: string): Promise<FileSizes> {
  const from = join(dirname(resolve(`${MODEL}/package.json`)), 'dist');
  const names = (await readdir(from)).filter((name) => /^group1-|\.json$/.test(name));
  const to = join(into, MODEL, 'dist');
  await mkdir(to, { recursive: true });
  const sizes: Record<string, number> = {};
  for (const name of names) {
    await copyFile(join(from, name), join(to, name));
    sizes[`${MODEL}/dist/${name}`] = (await stat(join(from, name))).size;
  }
  return sizes;
}

async function copyRuntime(into: string): Promise<void> {
  await mkdir(into, { recursive: true });
  for (const name of RUNTIME_FILES) await copyFile(resolve(`onnxruntime-web/${name}`), join(into, name));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await writeLesson(join(import.meta.dirname, '../public/lesson'));
}
