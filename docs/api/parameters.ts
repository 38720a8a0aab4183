import {
  Converter,
  IntersectionType,
  ReferenceType,
  ReflectionKind,
  TypeScript as ts,
  type Application,
  type ParameterReflection,
  type SomeType,
} from 'typedoc';

/** The defaults of a parameter's fields, as source text by field name. */
export type Defaults = ReadonlyMap<string, string>;

/** TypeDoc's name for a parameter that is destructured in the signature. */
const NAMELESS = '__namedParameters';

/** Utility types that select fields of their first argument, or make them optional, required or readonly. */
export const wrappers = ['Pick', 'Omit', 'Partial', 'Required', 'Readonly'];

/** Reads the defaults of every parameter's fields, and names the parameters that TypeDoc could not. */
export function readParameters(app: Application): ReadonlyMap<ParameterReflection, Defaults> {
  const found = new Map<ParameterReflection, Defaults>();
  app.converter.on(Converter.EVENT_CREATE_PARAMETER, (context, parameter) => {
    const declaration = context.getSymbolFromReflection(parameter)?.valueDeclaration;
    if (declaration && ts.isParameter(declaration)) found.set(parameter, defaultsOf(declaration));
  });
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const parameter of project.getReflectionsByKind(ReflectionKind.Parameter)) {
      if (parameter.isParameter() && parameter.name === NAMELESS) parameter.name = freeName(parameter);
    }
  });
  return found;
}

/** Returns the defaults of a parameter that is destructured in the signature or in the function's body. */
function defaultsOf(parameter: ts.ParameterDeclaration): Defaults {
  const body = 'body' in parameter.parent ? parameter.parent.body : undefined;
  const statements: readonly ts.Statement[] = body && ts.isBlock(body) ? [...body.statements] : [];
  const destructured = statements
    .filter(ts.isVariableStatement)
    .flatMap(({ declarationList }) => declarationList.declarations)
    .filter(({ initializer }) => initializer?.getText() === parameter.name.getText())
    .map(({ name }) => name);
  const elements = [parameter.name, ...destructured].filter(ts.isObjectBindingPattern).flatMap((name) => name.elements);
  return new Map(
    elements.flatMap(({ propertyName, name, initializer }) =>
      initializer && isClear(initializer) ? [[(propertyName ?? name).getText(), initializer.getText()]] : [],
    ),
  );
}

/** Whether a default is clear without the rest of the source: a literal, or a call without arguments. */
function isClear(initializer: ts.Expression): boolean {
  return /^(?:'[^']*'|-?\d[\w.-]*|true|false|null|\[\]|\{\}|\w+\(\))$/.test(initializer.getText());
}

/** Returns a name for a parameter, after its type, that none of the function's other parameters has. */
function freeName(parameter: ParameterReflection): string {
  const name = nameFor(parameter.type);
  const beside = parameter.parent?.parameters ?? [];
  return beside.some((other) => other.name === name) ? `${name}${beside.indexOf(parameter) + 1}` : name;
}

function nameFor(type: SomeType | undefined): string {
  if (type instanceof IntersectionType) return nameFor(type.types[0]);
  if (!(type instanceof ReferenceType)) return 'options';
  if (wrappers.includes(type.name)) return nameFor(type.typeArguments?.[0]);
  if (type.name.endsWith('Options')) return 'options';
  if (type.name.endsWith('Config')) return 'config';
  return type.name.charAt(0).toLowerCase() + type.name.slice(1);
}
