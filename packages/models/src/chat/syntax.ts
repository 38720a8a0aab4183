/**
 * The syntax tree of a template, as the parser of '@huggingface/jinja' returns it. It is declared here because the
 * package does not export it. Only the parser is used: what the library does with values is not bounded, and differs
 * from Python.
 */

/** A token of a template's source. `within` names the innermost bracket around it. */
export interface Token {
  readonly type: string;
  readonly value: string;
  readonly within?: number;
}

/** The library. */
export interface Jinja {
  parse(tokens: readonly Token[]): Node<'Program'>;
}

/** A node of the syntax tree, of one type or of any. */
export type Node<Type extends keyof Fields = keyof Fields> = { [T in Type]: { readonly type: T } & Fields[T] }[Type];

/** The statements and texts of a block. */
export type Nodes = readonly Node[];

/** A parameter of a macro, with or without a default. */
export type Parameter = Node<'Identifier' | 'KeywordArgumentExpression'>;

/** A filter with or without arguments. */
export type FilterCall = Node<'Identifier' | 'CallExpression'>;

interface Block {
  readonly body: Nodes;
}

interface Literal<T> {
  readonly value: T;
}

/** The fields of each type of node. */
interface Fields {
  readonly Program: Block;
  readonly If: Block & { readonly test: Node; readonly alternate: Nodes };
  readonly For: Block & { readonly loopvar: Node; readonly iterable: Node; readonly defaultBlock: Nodes };
  readonly Set: Block & { readonly assignee: Node; readonly value: Node | null };
  readonly Macro: Block & { readonly name: Node<'Identifier'>; readonly args: readonly Parameter[] };
  readonly CallStatement: Block & {
    readonly call: Node<'CallExpression'>;
    readonly callerArgs: readonly Parameter[] | null;
  };
  readonly FilterStatement: Block & { readonly filter: FilterCall };
  readonly Break: object;
  readonly Continue: object;
  readonly Identifier: Literal<string>;
  readonly StringLiteral: Literal<string>;
  readonly IntegerLiteral: Literal<number>;
  readonly FloatLiteral: Literal<number>;
  readonly ArrayLiteral: Literal<Nodes>;
  readonly TupleLiteral: Literal<Nodes>;
  readonly ObjectLiteral: { readonly value: ReadonlyMap<Node, Node> };
  readonly MemberExpression: { readonly object: Node; readonly property: Node; readonly computed: boolean };
  readonly SliceExpression: { readonly start?: Node; readonly stop?: Node; readonly step?: Node };
  readonly CallExpression: { readonly callee: Node; readonly args: Nodes };
  readonly UnaryExpression: { readonly operator: Token; readonly argument: Node };
  readonly BinaryExpression: { readonly operator: Token; readonly left: Node; readonly right: Node };
  readonly FilterExpression: { readonly operand: Node; readonly filter: FilterCall };
  readonly TestExpression: { readonly operand: Node; readonly negate: boolean; readonly test: Node<'Identifier'> };
  readonly SelectExpression: { readonly lhs: Node; readonly test: Node };
  readonly Ternary: { readonly condition: Node; readonly trueExpr: Node; readonly falseExpr: Node };
  readonly KeywordArgumentExpression: { readonly key: Node<'Identifier'>; readonly value: Node };
  readonly SpreadExpression: { readonly argument: Node };
  readonly KeywordSpreadExpression: { readonly argument: Node };
}
