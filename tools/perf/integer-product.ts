import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/* Just enough of ONNX's protobuf (onnx.proto3, IR version 9) for one node: Y = MatMulInteger(A, B). */

const ELEMENT = { uint8: 2, int8: 3, int32: 6 } as const;

/** An ONNX model that multiplies uint8 [rows, inner] by int8 [inner, columns] into int32. */
export function integerProductModel(rows: number, inner: number, columns: number): Uint8Array {
  const node = message((at) => {
    for (const input of ['a', 'b']) text(at, 1, input);
    text(at, 2, 'y');
    text(at, 4, 'MatMulInteger');
  });
  const graph = message((at) => {
    bytes(at, 1, node);
    text(at, 2, 'product');
    bytes(at, 11, valueInfo('a', ELEMENT.uint8, [rows, inner]));
    bytes(at, 11, valueInfo('b', ELEMENT.int8, [inner, columns]));
    bytes(at, 12, valueInfo('y', ELEMENT.int32, [rows, columns]));
  });
  return message((at) => {
    number(at, 1, 9);
    bytes(at, 7, graph);
    bytes(
      at,
      8,
      message((opset) => number(opset, 2, 20)),
    );
  });
}

function valueInfo(name: string, element: number, shape: readonly number[]): Uint8Array {
  const dimension = (size: number): Uint8Array => message((at) => number(at, 1, size));
  const shapeMessage = message((at) => {
    for (const size of shape) bytes(at, 1, dimension(size));
  });
  const tensorType = message((at) => {
    number(at, 1, element);
    bytes(at, 2, shapeMessage);
  });
  return message((at) => {
    text(at, 1, name);
    bytes(
      at,
      2,
      message((type) => bytes(type, 1, tensorType)),
    );
  });
}

function message(write: (at: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

function number(at: BinaryWriter, field: number, value: number): void {
  at.tag(field, WireType.Varint).int64(value);
}

function text(at: BinaryWriter, field: number, value: string): void {
  at.tag(field, WireType.LengthDelimited).string(value);
}

function bytes(at: BinaryWriter, field: number, value: Uint8Array): void {
  at.tag(field, WireType.LengthDelimited).bytes(value);
}
