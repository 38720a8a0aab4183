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

/** What the fields of a parameter are where a call does not give them, as the source has it. */
export type Defaults = ReadonlyMap<string, string>;

/** What TypeDoc calls a parameter that a function takes apart in its signature. */
const NAMELESS = '__namedParameters';

/** Utility types that change only which fields their first argument has, or whether these are optional or readonly. */
export const wrappers = ['Pick', 'Omit', 'Partial', 'Required', 'Readonly'];

/** Reads the defaults of every parameter's fields, and gives a name to parameters that have none. */
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

/** The defaults of a parameter that is taken apart where it is declared, or at once by the function's body. */
function defaultsOf(parameter: ts.ParameterDeclaration): Defaults {
  const body = 'body' in parameter.parent ? parameter.parent.body : undefined;
  const statements: readonly ts.Statement[] = body && ts.isBlock(body) ? [...body.statements] : [];
  const takenApart = statements
    .filter(ts.isVariableStatement)
    .flatMap(({ declarationList }) => declarationList.declarations)
    .filter(({ initializer }) => initializer?.getText() === parameter.name.getText())
    .map(({ name }) => name);
  const elements = [parameter.name, ...takenApart].filter(ts.isObjectBindingPattern).flatMap((name) => name.elements);
  return new Map(
    elements.flatMap(({ propertyName, name, initializer }) =>
      initializer && isTelling(initializer) ? [[(propertyName ?? name).getText(), initializer.getText()]] : [],
    ),
  );
}

/** Whether a default says something to who does not read the source: a literal, or what a call without arguments gives. */
function isTelling(initializer: ts.Expression): boolean {
  return /^(?:'[^']*'|-?\d[\w.-]*|true|false|null|\[\]|\{\}|\w+\(\))$/.test(initializer.getText());
}

/** A name by the parameter's type, which no parameter beside it has. */
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
