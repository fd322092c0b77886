import sys

from itsdangerous import URLSafeSerializer

serializer = URLSafeSerializer("not a secret")
token = serializer.dumps(sys.argv[1:])
print("signed", *serializer.loads(token))
