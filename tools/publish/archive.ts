import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';
import { PeftError } from '@peftjs/core';

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A list of values in a layout that compresses well. */
type Column =
  | Json[]
  /** Numbers of 32 bits, in base64: the first bytes of all, then all second ones, .. */
  | { float32: string }
  /** The shape of each value, by index; then, as columns, all plain values, items of lists, and fields by key. */
  | { shapes: Shape[]; of: number[]; plain: Column; items: Column; fields: Record<string, Column> };

/** The keys of an object, the length of a list, or null for a plain value. */
type Shape = string[] | number | null;

const PACKED = /^(?:(?:tuning\/)?results\/[^/]+|run|summary|tuning)\.json$/;

/**
 * Packs a run's result files, run.json, summary.json and tuning.json into an archive: their paths, and their contents
 * as one column, in JSON compressed by brotli.
 * @throws PeftError if there are none, or if one is not JSON as peft-bench writes it, which `unpack` could not restore.
 */
export async function pack(folder: string, archive: string): Promise<void> {
  const paths = (await readdir(folder, { recursive: true })).filter((path) => PACKED.test(path)).sort();
  const texts = await Promise.all(paths.map((path) => readFile(join(folder, path), 'utf8')));
  const contents = texts.map((text) => JSON.parse(text) as Json);
  const odd = paths.find((_, at) => textOf(contents[at]) !== texts[at]);
  if (paths.length === 0 || odd !== undefined)
    throw new PeftError('PEFT_PUBLISH', `expected result files of peft-bench in ${folder}, got ${odd ?? 'none'}`);
  const json = JSON.stringify({ paths, contents: columnOf(contents) });
  await writeFile(archive, brotliCompressSync(json, { params: { [constants.BROTLI_PARAM_LGWIN]: 24 } }));
}

/** Writes the files of an archive into a folder, byte for byte as they were packed. */
export async function unpack(archive: string, folder: string): Promise<void> {
  const json = brotliDecompressSync(await readFile(archive)).toString();
  const { paths, contents } = JSON.parse(json) as { paths: string[]; contents: Column };
  for (const [at, content] of valuesOf(contents).entries()) {
    const path = join(folder, paths[at] as string);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, textOf(content));
  }
}

function textOf(content: unknown): string {
  return `${JSON.stringify(content, null, 2)}\n`;
}

function columnOf(values: Json[]): Column {
  const of = values.map((value) => JSON.stringify(shapeOf(value)));
  const shapes = [...new Set(of)];
  if (shapes.every((shape) => shape === 'null')) return areFloat32(values) ? { float32: planesOf(values) } : values;
  const objects = values.filter(isObject);
  const keys = [...new Set(objects.flatMap((object) => Object.keys(object)))];
  const holders = (key: string) => objects.filter((object) => Object.hasOwn(object, key));
  return {
    shapes: shapes.map((shape) => JSON.parse(shape) as Shape),
    of: of.map((shape) => shapes.indexOf(shape)),
    plain: columnOf(values.filter((value) => shapeOf(value) === null)),
    items: columnOf(values.filter((value) => Array.isArray(value)).flat()),
    fields: Object.fromEntries(keys.map((key) => [key, columnOf(holders(key).map((object) => object[key] as Json))])),
  };
}

function valuesOf(column: Column): Json[] {
  if (Array.isArray(column)) return column;
  if ('float32' in column) return numbersOf(column.float32);
  const [plain, items] = [column.plain, column.items].map((part) => valuesOf(part).values());
  const fields = new Map(Object.entries(column.fields).map(([key, field]) => [key, valuesOf(field).values()]));
  const next = (values: Iterator<Json> | undefined): Json => values?.next().value as Json;
  return column.of.map((index) => {
    const shape = column.shapes[index] ?? null;
    if (shape === null) return next(plain);
    if (typeof shape === 'number') return Array.from({ length: shape }, () => next(items));
    return Object.fromEntries(shape.map((key) => [key, next(fields.get(key))]));
  });
}

function shapeOf(value: Json): Shape {
  if (Array.isArray(value)) return value.length;
  return isObject(value) ? Object.keys(value) : null;
}

function isObject(value: Json): value is Record<string, Json> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether all values are float32 and some are fractions, such as losses. Integers are shorter as text. */
function areFloat32(values: Json[]): values is number[] {
  const isFloat32 = (value: Json): boolean => typeof value === 'number' && Math.fround(value) === value;
  return values.every(isFloat32) && !values.every(Number.isInteger);
}

function planesOf(values: number[]): string {
  return Buffer.from(transposed(new Uint8Array(new Float32Array(values).buffer), 4)).toString('base64');
}

function numbersOf(planes: string): number[] {
  const bytes = new Uint8Array(Buffer.from(planes, 'base64'));
  return [...new Float32Array(transposed(bytes, bytes.length / 4).buffer)];
}

function transposed(bytes: Uint8Array, columns: number): Uint8Array {
  const rows = bytes.length / columns;
  return bytes.map((_, at) => bytes[(at % rows) * columns + Math.floor(at / rows)] as number);
}
